# Workloads with markers on the serial line. fp.c is the one file that may use the SSE registers.
rom_object(fp_object bench/fp.c FLOATING_POINT)
rom_image(bench bench/main.c bench/integer.c bench/memory.c bench/exits.c ${fp_object})
rom_image(bench-processors bench/processors.c)
