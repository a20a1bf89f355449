"""`python -m sklearn_psp`: search a folder of images, or see the demonstration."""

from sklearn_psp._cli import main

if __name__ == "__main__":
    raise SystemExit(main())
