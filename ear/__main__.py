"""`python -m ear`, which is also how torchrun starts it: torchrun --nproc-per-node 8 -m ear train CONFIG"""

from ear.cli import main

if __name__ == "__main__":
    main()
