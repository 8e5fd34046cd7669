"""Reference components of a singing voice conversion model, one file each; import the file you need."""
