/*
 * The first steps of guest B: it comes to life in 64-bit mode with page tables but without a GDT and an IDT, and makes
 * itself both; then guest_main (guest-b.c). The handlers are here too.
 */
#define CODE 0x08
#define TASK 0x10
#define TIMER_VECTOR 0x20
#define GP_VECTOR 0x0d

        .text
        .globl  _start
_start: lea     stack_end(%rip), %rsp
        lgdt    gdtr(%rip)
        push    $CODE
        lea     1f(%rip), %rax
        push    %rax
        lretq
1:      xor     %eax, %eax                      /* 64-bit code needs no data segment */
        mov     %eax, %ds
        mov     %eax, %es
        mov     %eax, %ss
        lea     timer_entry(%rip), %rax
        mov     $TIMER_VECTOR, %ecx
        call    set_gate
        lea     protection_entry(%rip), %rax
        mov     $GP_VECTOR, %ecx
        call    set_gate
        lidt    idtr(%rip)
        call    guest_main
1:      cli
        hlt
        jmp     1b

        /* IDT[ECX] = interrupt gate to RAX. */
set_gate:
        lea     idt(%rip), %rdx
        shl     $4, %rcx
        add     %rcx, %rdx
        mov     %ax, (%rdx)
        movw    $CODE, 2(%rdx)
        movw    $0x8e00, 4(%rdx)
        shr     $16, %rax
        mov     %ax, 6(%rdx)
        shr     $16, %rax
        mov     %eax, 8(%rdx)
        ret

timer_entry:
        incq    ticks(%rip)
        iretq

        /* #GP: the frame begins with an error code. Only write_byte below may fault. */
protection_entry:
        push    %rax
        lea     write_byte_at(%rip), %rax
        cmp     %rax, 16(%rsp)
        jne     1f
        lea     write_byte_faulted(%rip), %rax
        mov     %rax, 16(%rsp)
        pop     %rax
        add     $8, %rsp
        iretq
1:      cli
        hlt

        /* bool write_byte(uint8_t *where, uint8_t value): false if it faulted. */
        .globl  write_byte
write_byte:
        mov     $1, %eax
write_byte_at:
        mov     %sil, (%rdi)
        ret
write_byte_faulted:
        xor     %eax, %eax
        ret

        .data
        .balign 16
gdt:    .quad   0
        .quad   0x00af9b000000ffff              /* 64-bit code */
gdtr:   .word   . - gdt - 1
        .quad   gdt
idtr:   .word   4095
        .quad   idt
        .globl  ticks
        .balign 8
ticks:  .quad   0
        .balign 16
idt:    .fill   4096
        .fill   8192
stack_end:
