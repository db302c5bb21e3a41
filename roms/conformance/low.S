/*
 * The road from 64-bit mode down to the other modes and back. This code is copied to LOW_RUNNER. See low.h.
 */
#define SEL_CODE64 0x08
#define SEL_DATA 0x10
#define SEL_CODE32 0x18
#define SEL_CODE16 0x20
#define SEL_DATA16 0x28
#define LOW_STACK 0x6ff0
#define LOW_SNIPPET 0x9000
#define REAL 0
#define PROTECTED16 1
#define PROTECTED32 2
#define COMPAT16 3
#define COMPAT32 4
#define IA32_EFER 0xc0000080
#define AT(label) ((label) - low_begin + 0x8000)

        .text
        .globl  low_begin, low_end
        .balign 16
        .code64
low_begin:                                      /* uint32_t low(uint32_t mode) */
        push    %rbx
        push    %rbp
        push    %r12
        push    %r13
        push    %r14
        push    %r15
        mov     %rsp, AT(saved_rsp)
        sidt    AT(saved_idt)
        mov     %edi, %ebx
        ljmp    *AT(to_16)
to_16:  .long   AT(compat16)
        .word   SEL_CODE16

        .code16
compat16:
        mov     $LOW_STACK, %esp
        mov     $SEL_DATA16, %ax
        cmp     $COMPAT16, %bl
        je      run_compat16
        cmp     $COMPAT32, %bl
        je      to_compat32
        mov     %ax, %ds
        mov     %ax, %es
        mov     %ax, %ss
        mov     %ax, %fs
        mov     %ax, %gs
        mov     %cr0, %eax                      /* out of IA-32e mode: first paging, then LME */
        and     $0x7fffffff, %eax
        mov     %eax, %cr0
        mov     $IA32_EFER, %ecx
        rdmsr
        and     $~0x100, %eax
        wrmsr
        cmp     $PROTECTED16, %bl
        je      run_protected16
        cmp     $PROTECTED32, %bl
        je      to_protected32

        mov     %cr0, %eax
        and     $~1, %eax
        mov     %eax, %cr0
        ljmp    $0, $AT(real)
real:   xor     %ax, %ax
        mov     %ax, %ds
        mov     %ax, %es
        mov     %ax, %ss
        mov     %ax, %fs
        mov     %ax, %gs
        lidt    AT(real_idt)
        mov     $LOW_SNIPPET, %ax
        call    *%ax
        cli
        xor     %cx, %cx
        mov     %cx, %ds
        mov     %eax, AT(result)
        mov     %cr0, %eax
        or      $1, %eax
        mov     %eax, %cr0
        ljmp    $SEL_CODE16, $AT(back16)

run_protected16:
        lidt    AT(protected_idt)
        mov     $LOW_SNIPPET, %ax
        call    *%ax
        mov     $SEL_DATA16, %cx
        mov     %cx, %ds
        mov     %eax, AT(result)
        jmp     back16

to_protected32:
        ljmpl   $SEL_CODE32, $AT(protected32)

        /* In 16-bit protected mode with paging off. */
back16: mov     $SEL_DATA, %ax
        mov     %ax, %ds
        mov     %ax, %es
        mov     %ax, %ss
        mov     $IA32_EFER, %ecx
        rdmsr
        or      $0x100, %eax
        wrmsr
        mov     %cr0, %eax
        or      $0x80000000, %eax
        mov     %eax, %cr0
        ljmpl   $SEL_CODE64, $AT(back64)

run_compat16:
        mov     %ax, %ds
        mov     %ax, %es
        mov     %ax, %ss
        mov     $LOW_SNIPPET, %ax
        call    *%ax
        mov     $SEL_DATA16, %cx
        mov     %cx, %ds
        mov     %eax, AT(result)
        ljmpl   $SEL_CODE64, $AT(back64)

to_compat32:
        ljmpl   $SEL_CODE32, $AT(compat32)

        .code32
compat32:
        mov     $SEL_DATA, %eax
        mov     %eax, %ds
        mov     %eax, %es
        mov     %eax, %ss
        mov     $LOW_SNIPPET, %eax
        call    *%eax
        mov     %eax, AT(result)
        ljmp    $SEL_CODE64, $AT(back64)

protected32:
        mov     $SEL_DATA, %eax
        mov     %eax, %ds
        mov     %eax, %es
        mov     %eax, %ss
        mov     %eax, %fs
        mov     %eax, %gs
        lidt    AT(protected_idt)
        mov     $LOW_SNIPPET, %eax
        call    *%eax
        mov     %eax, AT(result)
        ljmp    $SEL_CODE16, $AT(back16)

        .code64
back64: mov     $SEL_DATA, %eax
        mov     %eax, %ds
        mov     %eax, %es
        mov     %eax, %ss
        xor     %eax, %eax
        mov     %eax, %fs
        mov     %eax, %gs
        mov     AT(saved_rsp), %rsp
        lidt    AT(saved_idt)
        mov     AT(result), %eax
        pop     %r15
        pop     %r14
        pop     %r13
        pop     %r12
        pop     %rbp
        pop     %rbx
        ret

        .balign 8
saved_rsp: .quad 0
saved_idt: .quad 0, 0
result: .long   0
real_idt: .word 0x3ff
        .long   0
protected_idt:
        .word   32 * 8 - 1
        .long   0x5000                          /* LOW_IDT */
low_end:
