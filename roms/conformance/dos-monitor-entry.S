/* The monitor's way in, its way out, and its vectors. Called as a function in 32-bit protected mode without paging. */
        .text
        .code32
        .globl  _start, monitor_leave, monitor_stubs
_start: pusha
        mov     %esp, saved_esp
        sgdt    saved_gdt
        mov     %cr3, %eax
        mov     %eax, saved_cr3
        mov     %cr4, %eax
        mov     %eax, saved_cr4
        call    monitor_prepare         /* the address of nine words: what IRET takes into the program */
        mov     %eax, %esp
        iret

monitor_leave:
        cli
        mov     %cr0, %eax
        and     $0x7fffffff, %eax
        mov     %eax, %cr0
        mov     saved_cr3, %eax
        mov     %eax, %cr3
        mov     saved_cr4, %eax
        mov     %eax, %cr4
        lgdt    saved_gdt
        mov     saved_esp, %esp
        popa
        ret

        .balign 16
monitor_stubs:                          /* 16 bytes each: vectors 0 to 2Fh */
        .set    vector, 0
        .rept   0x30
        .balign 16
        .if     !(vector == 8 || (vector >= 10 && vector <= 14) || vector == 17)
        push    $0
        .endif
        push    $vector
        jmp     common
        .set    vector, vector + 1
        .endr
common: pusha
        mov     $0x10, %eax
        mov     %eax, %ds
        mov     %eax, %es
        push    %esp
        cld
        call    monitor_trap
        add     $4, %esp
        popa
        add     $8, %esp
        iret

        .data
saved_esp: .long 0
saved_cr3: .long 0
saved_cr4: .long 0
        .globl  saved_gdt
saved_gdt: .word 0
        .long   0
