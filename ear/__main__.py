"""`python -m ear`, also for torchrun: torchrun --nproc-per-node 8 -m ear train CONFIG"""

from ear.process.code import leave_working_directory

if __name__ == "__main__":
    leave_working_directory()  # before all other imports: a file there may have a module's name
    from ear.cli import main

    main()
