/*
 * The 256 entry points of the IDT, the common way into trap_dispatch, and the long jump behind trap_catch.
 */
        .text
        .globl  trap_vectors
        .balign 16
trap_vectors:                                   /* 16 bytes each */
        .set    vector, 0
        .rept   256
        .balign 16
        /* Vectors 8, 10-14, 17 and 21 come with an error code; the others get a zero, for one frame layout. */
        .if     !(vector == 8 || (vector >= 10 && vector <= 14) || vector == 17 || vector == 21)
        push    $0
        .endif
        push    $vector
        jmp     trap_entry
        .set    vector, vector + 1
        .endr

trap_entry:
        push    %rax
        push    %rcx
        push    %rdx
        push    %rbx
        push    %rbp
        push    %rsi
        push    %rdi
        push    %r8
        push    %r9
        push    %r10
        push    %r11
        push    %r12
        push    %r13
        push    %r14
        push    %r15
        cld
        mov     %rsp, %rdi
        mov     %rsp, %rbp
        and     $-16, %rsp
        call    trap_dispatch
        mov     %rbp, %rsp
        pop     %r15
        pop     %r14
        pop     %r13
        pop     %r12
        pop     %r11
        pop     %r10
        pop     %r9
        pop     %r8
        pop     %rdi
        pop     %rsi
        pop     %rbp
        pop     %rbx
        pop     %rdx
        pop     %rcx
        pop     %rax
        add     $16, %rsp
        iretq

/* uint64_t trap_run(uint64_t *saved_rsp, const void *code, a, b, c): calls code(a, b, c). */
        .globl  trap_run
trap_run:
        push    %rbx
        push    %rbp
        push    %r12
        push    %r13
        push    %r14
        push    %r15
        push    %rdi                            /* also aligns the stack */
        mov     %rsp, (%rdi)
        mov     %rsi, %rax
        mov     %rdx, %rdi
        mov     %rcx, %rsi
        mov     %r8, %rdx
        call    *%rax
trap_return:
        pop     %rdi
        pop     %r15
        pop     %r14
        pop     %r13
        pop     %r12
        pop     %rbp
        pop     %rbx
        ret

/* trap_abandon(uint64_t saved_rsp): returns from trap_run instead of from the interrupted code. */
        .globl  trap_abandon
trap_abandon:
        mov     %rdi, %rsp
        mov     $0x10, %eax
        mov     %eax, %ds
        mov     %eax, %es
        mov     %eax, %ss
        push    $2
        popfq
        jmp     trap_return

/* trap_iret(rip, cs, rsp, ss, rflags, a, [b]): from inside trap_run to anywhere. */
        .globl  trap_iret
trap_iret:
        mov     8(%rsp), %rax                   /* b */
        push    %rcx
        push    %rdx
        push    %r8
        push    %rsi
        push    %rdi
        mov     %r9, %rdi
        mov     %rax, %rsi
        iretq
