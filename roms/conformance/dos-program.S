/*
 * The program: 16-bit code at 1000:0100 as DOS starts a .COM file, and at 1100:0000 what it believes to be BIOS and
 * DOS. It prints what it sees; dos.c knows what that is where all is as on an 8086 (but for IOPL, which shows as 3).
 */
        #define DOS_PRINTER 0x378
#define DOS_EXIT    0xf1
#define DOS_TICKS   0xf2
#define DOS_VECTOR  0x60
        .code16
        .text
        .globl  _start
_start: .org    0x100
        mov     %cs, %ax
        mov     %ax, %ds
        mov     %ax, %es
        mov     $hello - _start, %dx
        mov     $9, %ah
        int     $0x21

        mov     $0x30, %ah              /* the version */
        int     $0x21
        add     $'0', %al
        call    putc

        mov     $ticked - _start, %dx   /* our own INT 1Ch */
        mov     $0x251c, %ax
        int     $0x21
        call    space

        sti                             /* flags, as PUSHF shows them; and through POPF */
        pushf
        pop     %ax
        and     $0x7200, %ax
        call    hex
        cli
        pushf
        pop     %ax
        and     $0x7200, %ax
        call    hex
        push    $0x7bd7                 /* all that POPF may set below IOPL 3, IF too; DF and TF not */
        andw    $0xfaff, %ss:(0xfffc)
        popf
        pushf
        pop     %ax
        and     $0x7ad5, %ax
        call    hex
        push    $0x202
        popf
        int     $0x61                   /* AX: the flags that it was called with; BX: those that it runs with */
        push    %bx
        and     $0x7200, %ax
        call    hex
        pop     %ax
        and     $0x7200, %ax
        call    hex
        int     $DOS_VECTOR             /* the same by the vector that is not redirected */
        and     $0x7200, %ax
        call    hex

        mov     ticks - _start, %ax     /* five ticks, waited for in a loop */
        add     $5, %ax
1:      cmp     ticks - _start, %ax
        jne     1b
        mov     $'L', %al
        call    putc
        mov     ticks - _start, %ax     /* and three more with HLT */
        add     $3, %ax
2:      hlt
        cmp     %ax, ticks - _start
        js      2b
        mov     $'H', %al
        call    putc

        cli                             /* none comes while interrupts are off ... */
        mov     ticks - _start, %bx
        in      $DOS_TICKS, %al
        add     $3, %al
        mov     %al, %ah
3:      in      $DOS_TICKS, %al
        cmp     %al, %ah
        jne     3b
        mov     $'-', %al
        cmp     ticks - _start, %bx
        je      4f
        mov     $'?', %al
4:      call    putc
        call    wait_held
        sti                             /* ... and one at once behind STI */
        nop
        call    came
        cli                             /* the same with POPF, and with IRET */
        call    wait_held
        push    $0x202
        popf
        nop
        call    came
        cli
        call    wait_held
        push    $0x202
        push    %cs
        push    $6f - _start
        iret
6:      nop
        call    came
        mov     $0x21, %dx              /* masked at the 8259 */
        mov     $1, %al
        out     %al, %dx
        call    wait_held
        mov     $'m', %al
        cmp     ticks - _start, %bx
        je      7f
        mov     $'?', %al
7:      call    putc
        mov     $0, %al
        out     %al, %dx
        in      %dx, %al
        call    digit
        call    space

        mov     $0x38, %al              /* decimal arithmetic: 38 + 45 = 83, 9 * 8 = 72 */
        add     $0x45, %al
        daa
        call    byte
        mov     $9, %al
        mov     $8, %bl
        mul     %bl
        aam
        add     $0x3030, %ax
        xchg    %al, %ah
        call    putc
        mov     %ah, %al
        call    putc
        call    space

        mov     $word_end - _start - 1, %si     /* a string, backwards; a byte of code that changes */
        mov     $5, %cx
8:      std
        lodsb
        cld
        call    putc
        loop    8b
        movb    $'!', 9f - _start + 1
        jmp     9f
9:      mov     $'?', %al
        call    putc
        lcall   $0x1100, $far_call - bios

        xor     %ax, %ax                /* FFFF:0094 is 0000:0084, the vector of INT 21h */
        mov     %ax, %es
        mov     $0xffff, %ax
        mov     %ax, %fs
        mov     %es:0x84, %ax
        cmp     %fs:0x94, %ax
        mov     $'w', %al
        je      10f
        mov     $'?', %al
10:     call    putc
        mov     $0xb800, %ax            /* the screen */
        mov     %ax, %es
        xor     %di, %di
        mov     $shown - _start, %si
        mov     $8, %cx
        rep movsb
        in      $0x40, %al              /* the timer's own port is ours: this is not emulated */
        mov     $0x4c2a, %ax
        int     $0x21
        ud2

wait_held:                              /* three ticks of the real timer; BX: ours before */
        mov     ticks - _start, %bx
        in      $DOS_TICKS, %al
        add     $3, %al
        mov     %al, %ah
1:      in      $DOS_TICKS, %al
        cmp     %al, %ah
        jne     1b
        ret
came:   mov     $'+', %al
        cmp     ticks - _start, %bx
        jne     putc
        mov     $'?', %al
        jmp     putc
space:  mov     $' ', %al
putc:   push    %dx                     /* AL, by DOS */
        push    %ax
        mov     %al, %dl
        mov     $2, %ah
        int     $0x21
        pop     %ax
        pop     %dx
        ret
hex:    xchg    %al, %ah                /* AX, and a space */
        call    byte
        mov     %ah, %al
        call    byte
        jmp     space
byte:   push    %ax
        shr     $4, %al
        call    digit
        pop     %ax
digit:  push    %ax
        and     $15, %al
        mov     $digits - _start, %bx
        xlat
        call    putc
        pop     %ax
        ret
back:   lret
ticked: incw    %cs:(ticks - _start)    /* INT 1Ch */
        iret

hello:  .ascii  "Hello, DOS $"
digits: .ascii  "0123456789ABCDEF"
word:   .ascii  "olleh"
word_end:
shown:  .ascii  "V.8.6...."
        .balign 2
ticks:  .word   0

        .org    0x1000                  /* 1100:0000 */
bios:
int8:   push    %ax                     /* the timer: INT 1Ch, and the end of the interrupt */
        push    %ds
        xor     %ax, %ax
        mov     %ax, %ds
        incl    0x46c
        int     $0x1c
        mov     $0x20, %al
        out     %al, $0x20
        pop     %ds
        pop     %ax
        iret
        .org    0x103f
        iret                            /* INT 1Ch as it is at first */
        .org    0x1040                  /* DOS */
int21:  sti
        cmp     $2, %ah
        je      1f
        cmp     $9, %ah
        je      2f
        cmp     $0x25, %ah
        je      4f
        cmp     $0x30, %ah
        je      5f
        cmp     $0x4c, %ah
        je      6f
        iret
1:      push    %dx                     /* 02h: DL */
        mov     %dl, %al
        mov     $DOS_PRINTER, %dx
        out     %al, %dx
        pop     %dx
        iret
2:      push    %si                     /* 09h: to the $ */
        push    %dx
        mov     %dx, %si
        mov     $DOS_PRINTER, %dx
        cld
3:      lodsb
        cmp     $'$', %al
        je      7f
        out     %al, %dx
        jmp     3b
7:      pop     %dx
        pop     %si
        iret
4:      push    %es                     /* 25h: vector AL is DS:DX */
        push    %bx
        xor     %bx, %bx
        mov     %bx, %es
        mov     %al, %bl
        shl     $2, %bx
        mov     %dx, %es:(%bx)
        mov     %ds, %es:2(%bx)
        pop     %bx
        pop     %es
        iret
5:      mov     $5, %ax                 /* 30h */
        iret
6:      out     %al, $DOS_EXIT          /* 4Ch */
        .org    0x10c0
int61:  push    %bp
        mov     %sp, %bp
        mov     6(%bp), %ax
        pushf
        pop     %bx
        pop     %bp
        iret
        .org    0x10e0
far_call:
        mov     $'f', %al
        push    %cs
        push    $1f - bios
        push    $back - _start          /* where the RET of PUTC finds an LRET */
        push    $0x1000
        push    $putc - _start
        lret
1:      lret
        .org    0x1200
