/* The program and its monitor, as bytes. */
        .section .rodata
        .globl  dos_program, dos_program_end, dos_monitor, dos_monitor_end
dos_program:
        .incbin DOS_PROGRAM_IMAGE
dos_program_end:
dos_monitor:
        .incbin DOS_MONITOR_IMAGE
dos_monitor_end:
