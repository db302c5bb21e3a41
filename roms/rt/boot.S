/*
 * From the boot loader to C: a multiboot 1 loader enters here in 32-bit protected mode without paging; we build an
 * identity map of the first 4 GiB in 2 MiB pages, switch to 64-bit mode and call rt_start.
 *
 * Missing: memory above 4 GiB, and any other boot protocol.
 */
#include "long_mode.inc"
#define MULTIBOOT_HEADER_MAGIC 0x1badb002

        .section .multiboot, "a"
        .balign 4
        .long MULTIBOOT_HEADER_MAGIC
        .long 0                                 /* flags: nothing asked; the ELF headers say where we go */
        .long -MULTIBOOT_HEADER_MAGIC

        .text
        .code32
        .globl boot_entry
boot_entry:
        cli
        cld
        mov     $boot_stack_end, %esp
        mov     %eax, %ebp                      /* the loader's magic number */
        mov     %ebx, %esi                      /* the multiboot information */

        mov     $0x80000000, %eax
        cpuid
        cmp     $0x80000001, %eax
        jb      no_long_mode
        mov     $0x80000001, %eax
        cpuid
        bt      $29, %edx
        jnc     no_long_mode

        /* One PML4 entry, four PDPT entries, 2048 PD entries. Upper levels carry U so that a test can hand out
           user pages below them; the pages themselves are the supervisor's. */
        mov     $boot_pdpt + 7, %eax
        mov     %eax, rt_pml4
        mov     $boot_pd + 7, %eax
        mov     $boot_pdpt, %edi
        mov     $4, %ecx
1:      mov     %eax, (%edi)
        add     $8, %edi
        add     $4096, %eax
        loop    1b
        mov     $0x83, %eax                     /* present, writable, 2 MiB */
        mov     $boot_pd, %edi
        mov     $2048, %ecx
1:      mov     %eax, (%edi)
        add     $8, %edi
        add     $0x200000, %eax
        loop    1b

        lgdt    boot_gdtr
        ENTER_LONG_MODE
        ljmp    $0x08, $boot_long

no_long_mode:
        mov     $'!', %al
        mov     $0x3f8, %dx
        out     %al, %dx
        hlt
        jmp     no_long_mode

        .code64
boot_long:
        mov     $0x10, %eax
        mov     %eax, %ds
        mov     %eax, %es
        mov     %eax, %ss
        xor     %eax, %eax
        mov     %eax, %fs
        mov     %eax, %gs
        mov     $boot_stack_end, %esp
        mov     %ebp, %edi
        mov     %esi, %esi
        xor     %ebp, %ebp
        call    rt_start
        ud2                                     /* rt_start does not return */

        .data
        .balign 16
        .globl  rt_gdt, rt_gdt_end
        /* The selectors are in rt.h. SYSRET wants 32-bit user code, data and 64-bit user code in this order. */
rt_gdt: .quad   0
        .quad   0x00af9b000000ffff              /* 08 code, 64-bit */
        .quad   0x00cf93000000ffff              /* 10 data */
        .quad   0x00cf9b000000ffff              /* 18 code, 32-bit */
        .quad   0x00009b000000ffff              /* 20 code, 16-bit, 64 KiB */
        .quad   0x000093000000ffff              /* 28 data, 16-bit, 64 KiB */
        .quad   0x00cffb000000ffff              /* 30 user code, 32-bit */
        .quad   0x00cff3000000ffff              /* 38 user data */
        .quad   0x00affb000000ffff              /* 40 user code, 64-bit */
        .quad   0, 0                            /* 48 TSS, filled in by trap_init */
        .fill   16, 8, 0                        /* 58 and up: for tests */
rt_gdt_end:
boot_gdtr:
        .word   rt_gdt_end - rt_gdt - 1
        .quad   rt_gdt

        .bss
        .balign 4096
        .globl  rt_pml4
rt_pml4: .skip  4096
boot_pdpt: .skip 4096
boot_pd: .skip  4 * 4096
boot_stack: .skip 32768
        .globl boot_stack_end
boot_stack_end:
