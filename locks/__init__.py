"""What is installed, file by file, and who writes that down."""
