"""The packages that are installed, file by file, and the scripts that write these lists."""
