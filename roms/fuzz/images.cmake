# Guests that try things at random, from a seed.
rom_image(fuzz-vmcs fuzz/main.c fuzz/cases.c fuzz/extras.c fuzz/random.c fuzz/arena.c fuzz/guests.c fuzz/controls.c fuzz/events.c fuzz/mutate.c fuzz/program.c
    fuzz/report.c)
rom_image(hostile fuzz/hostile.c)
