"""Pure processing: data in, data out, the clock is an argument."""
