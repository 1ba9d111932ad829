"""Lists of class names: those of known data sets, and the form in which one writes one's own."""
