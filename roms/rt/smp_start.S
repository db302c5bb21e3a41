/*
 * Where the other processors begin: copied to 8000h, entered in real mode with CS = 0800h.
 */
#include "long_mode.inc"
        .text
        .globl  smp_trampoline, smp_trampoline_end, smp_long
        .code16
smp_trampoline:
        cli
        cld
        xor     %ax, %ax
        mov     %ax, %ds
        lgdtl   0x8000 + gdtr - smp_trampoline
        ENTER_LONG_MODE
        ljmpl   $0x08, $smp_long
        .balign 8
gdtr:   .word   127
        .long   rt_gdt
smp_trampoline_end:

        .code64
smp_long:
        mov     $0x10, %eax
        mov     %eax, %ds
        mov     %eax, %es
        mov     %eax, %ss
        xor     %eax, %eax
        mov     %eax, %fs
        mov     %eax, %gs
        mov     $1, %eax
        cpuid                                   /* the stack is found by the APIC ID's low byte, which is no memory */
        shr     $24, %ebx
        movzbl  smp_number_of(%rbx), %edi       /* 0: a new one */
        test    %edi, %edi
        jnz     1f
        mov     $1, %edi
        lock xadd %edi, smp_arrived
        cmp     $16, %edi                       /* SMP_MAX */
        jae     2f
        mov     %dil, smp_number_of(%rbx)
1:      mov     %edi, %eax
        shl     $14, %eax                       /* 16 KiB each */
        lea     smp_stacks + 0x4000(%rax), %rsp
        xor     %ebp, %ebp
        call    smp_main
2:      hlt
        jmp     2b
