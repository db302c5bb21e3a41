/*
 * Guest A: a 16-bit real-mode program, as one would write it for a PC's boot sector. It believes that it has the
 * machine to itself: it uses COM1 by its ports, and takes its timer through the interrupt vector table.
 */
#define COM1 0x3f8
#define TIMER_VECTOR 0x08
#define GP_VECTOR 0x0d
#define SHARED_ADDRESS 0x6000
#define MY_VALUE 0xaaaaaaaa
#define TICKS_TO_SEE 8

        .code16
        .text
        .globl  _start
_start: xor     %ax, %ax
        mov     %ax, %ds
        mov     %ax, %es
        mov     %ax, %ss
        mov     $0x7c00, %sp
        cld

        mov     $hello, %si
        call    puts

        /* Which processor is this? The vendor comes in EBX, EDX, ECX. */
        xor     %eax, %eax
        cpuid
        mov     %ebx, vendor
        mov     %edx, vendor + 4
        mov     %ecx, vendor + 8
        mov     $cpu_is, %si
        call    puts
        mov     $vendor, %si
        call    puts
        mov     $newline, %si
        call    puts

        movl    $MY_VALUE, SHARED_ADDRESS

        movw    $tick, TIMER_VECTOR * 4
        movw    $0, TIMER_VECTOR * 4 + 2
        movw    $protection_fault, GP_VECTOR * 4
        movw    $0, GP_VECTOR * 4 + 2

        /* Sleep, and report each tick that wakes us. A tick that comes between the comparison and HLT is not lost: STI
           holds interrupts back for one instruction, and HLT is that instruction. */
        xor     %bx, %bx
wait:   cli
        cmp     ticks, %bx
        jne     woken
        sti
        hlt
        jmp     wait
woken:  sti
        mov     ticks, %bx
        mov     $tick_is, %si
        call    puts
        mov     %bx, %ax
        call    put_decimal
        mov     $newline, %si
        call    puts
        cmp     $TICKS_TO_SEE, %bx
        jb      wait
        cli

        /* Is what we wrote still there? The other guest has written to the same address meanwhile. */
        mov     $wrote, %si
        call    puts
        mov     SHARED_ADDRESS, %eax
        call    put_hex
        mov     $newline, %si
        call    puts

        /* Beyond our 512 KiB: A000:0000, where a PC has its video memory. The handler below takes over. */
        mov     $touch, %si
        call    puts
        mov     $0xa000, %ax
        mov     %ax, %es
touching:
        movb    $1, %es:0
        mov     $no_fault, %si
        jmp     1f
faulted:
        mov     $fault, %si
1:      call    puts
        xor     %ax, %ax
        mov     %ax, %es

        mov     $goodbye, %si
        call    puts
        cli
1:      hlt
        jmp     1b

        /* The timer interrupt: count. There is no interrupt controller to acknowledge. */
tick:   incw    %cs:ticks
        iret

        /* #GP: at the touch we know what to do; anywhere else is not expected. Real mode pushes no error code. */
protection_fault:
        push    %bp
        mov     %sp, %bp
        cmpw    $touching, 2(%bp)
        jne     1f
        movw    $faulted, 2(%bp)
        pop     %bp
        iret
1:      cli
        hlt

        /* Prints AL, polling the line status as one does. */
putc:   push    %dx
        push    %ax
        mov     $COM1 + 5, %dx
1:      in      %dx, %al
        test    $0x20, %al
        jz      1b
        mov     $COM1, %dx
        pop     %ax
        out     %al, %dx
        pop     %dx
        ret

        /* Prints the string at SI. */
puts:   lodsb
        test    %al, %al
        jz      1f
        call    putc
        jmp     puts
1:      ret

        /* Prints AX in decimal. */
put_decimal:
        xor     %dx, %dx
        mov     $10, %cx
        div     %cx
        push    %dx
        test    %ax, %ax
        jz      1f
        call    put_decimal
1:      pop     %ax
        add     $'0', %al
        jmp     putc

        /* Prints EAX in hexadecimal. */
put_hex:
        mov     $8, %cx
1:      rol     $4, %eax
        push    %eax
        and     $15, %al
        cmp     $10, %al
        sbb     $0x69, %al                      /* the old trick: 0-9 and A-F by DAS */
        das
        call    putc
        pop     %eax
        loop    1b
        ret

hello:  .asciz  "hello from 16-bit real mode\n"
cpu_is: .asciz  "CPUID says that my processor is "
vendor: .asciz  "............"
tick_is: .asciz "timer tick "
wrote:  .asciz  "I wrote AAAAAAAA at 6000 and read back "
touch:  .asciz  "writing to A000:0000, beyond my memory\n"
fault:  .asciz  "#GP: so that was not mine\n"
no_fault: .asciz "nothing stopped me\n"
goodbye: .asciz "goodbye\n"
newline: .asciz "\n"
ticks:  .word   0
