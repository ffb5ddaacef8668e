"""`python -m ear`, which is also how torchrun starts it: torchrun --nproc-per-node 8 -m ear train CONFIG"""

from ear.process.code import leave_working_directory

if __name__ == "__main__":
    leave_working_directory()  # before anything else is imported: a file there may be called like a module
    from ear.cli import main

    main()
