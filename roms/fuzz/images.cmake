# Guests that try things at random, from a seed.
rom_image(fuzz-vmx-entry fuzz/vmx-entry.c tests/vmx-common.c)
