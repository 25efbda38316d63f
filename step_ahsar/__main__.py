"""``python -m step_ahsar``, which torchrun and accelerate launch can start."""

from step_ahsar.cli import main

if __name__ == "__main__":
    main()
