# Guests that try things at random, from a seed.
rom_image(fuzz-vmx-entry fuzz/vmx-entry.c conformance/vmx-common.c)
