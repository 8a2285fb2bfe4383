# written by the packaging work
