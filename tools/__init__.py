"""One module per outside thing: git, files, engines, scanners."""
