/*
 * The world switch: one function that enters the guest and comes back with the next VM exit.
 */
#include "vmcs.h"

        .text
/* uint64_t vmx_enter(struct vmx_regs *regs, bool launched): 0 after a VM exit, else CF | ZF << 1 of the failed
   instruction. HOST_RSP and HOST_RIP are written here, for they depend on where we stand. */
        .globl  vmx_enter
vmx_enter:
        push    %rbx
        push    %rbp
        push    %r12
        push    %r13
        push    %r14
        push    %r15
        push    %rdi
        mov     $HOST_RSP, %eax
        vmwrite %rsp, %rax
        jbe     vmwrite_failed
        lea     vmx_exit_point(%rip), %rdx
        mov     $HOST_RIP, %eax
        vmwrite %rdx, %rax
        jbe     vmwrite_failed

        test    %sil, %sil                      /* the MOVs below leave the flags alone */
        mov     0x00(%rdi), %rax
        mov     0x08(%rdi), %rcx
        mov     0x10(%rdi), %rdx
        mov     0x18(%rdi), %rbx
        mov     0x28(%rdi), %rbp
        mov     0x30(%rdi), %rsi
        mov     0x40(%rdi), %r8
        mov     0x48(%rdi), %r9
        mov     0x50(%rdi), %r10
        mov     0x58(%rdi), %r11
        mov     0x60(%rdi), %r12
        mov     0x68(%rdi), %r13
        mov     0x70(%rdi), %r14
        mov     0x78(%rdi), %r15
        mov     0x38(%rdi), %rdi
        jnz     1f
        vmlaunch
        jmp     2f
1:      vmresume
2:      /* Still here: the instruction failed. The guest registers are of no use. */
        pushfq
        pop     %rax
        mov     %rax, %rdx
        and     $1, %eax
        shr     $5, %edx
        and     $2, %edx
        or      %rdx, %rax
        pop     %rdi
        jmp     3f

vmwrite_failed:
        mov     $1, %eax
        pop     %rdi
        jmp     3f

        /* A VM exit lands here, on the stack as it was at VMWRITE HOST_RSP. */
vmx_exit_point:
        push    %rdi                            /* the guest's */
        mov     8(%rsp), %rdi                   /* ours */
        mov     %rax, 0x00(%rdi)
        mov     %rcx, 0x08(%rdi)
        mov     %rdx, 0x10(%rdi)
        mov     %rbx, 0x18(%rdi)
        mov     %rbp, 0x28(%rdi)
        mov     %rsi, 0x30(%rdi)
        mov     %r8, 0x40(%rdi)
        mov     %r9, 0x48(%rdi)
        mov     %r10, 0x50(%rdi)
        mov     %r11, 0x58(%rdi)
        mov     %r12, 0x60(%rdi)
        mov     %r13, 0x68(%rdi)
        mov     %r14, 0x70(%rdi)
        mov     %r15, 0x78(%rdi)
        pop     %rax
        mov     %rax, 0x38(%rdi)
        pop     %rdi
        xor     %eax, %eax
3:      pop     %r15
        pop     %r14
        pop     %r13
        pop     %r12
        pop     %rbp
        pop     %rbx
        cld
        ret
