"""`ssd artifacts`: the door to `ssd.inventory`, which knows what runs are."""

from ssd.inventory.command import main

if __name__ == "__main__":
    main()
