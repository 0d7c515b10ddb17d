"""``python -m edgeprune.cli``: what installed systemd units and ``accelerate launch`` start."""

from edgeprune.cli.app import main

if __name__ == "__main__":
    main()
