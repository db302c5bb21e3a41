# Workloads with markers on the serial line.
