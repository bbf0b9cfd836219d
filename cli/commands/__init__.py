"""One module per noun: each command turns flags into one call of the core and prints what came back."""
