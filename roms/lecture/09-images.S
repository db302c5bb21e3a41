/* The V86 monitor of program 9, carried as data. */
        .section .rodata
        .globl  v86_monitor, v86_monitor_end
v86_monitor:
        .incbin V86_MONITOR_IMAGE
v86_monitor_end:
