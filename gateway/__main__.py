"""`python -m gateway` is `video-gateway`."""

from gateway.cli import main

if __name__ == "__main__":
    main()
