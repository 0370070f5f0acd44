"""Short programs to start from; examples/README.md lists them."""
