/*
 * The console (COM1, 115200 baud, polled) and print. Missing in print: floating point, precision.
 */
#include "rt.h"

#define COM1 0x3f8

void console_init(void)
{
    outb(COM1 + 1, 0);    /* no interrupts */
    outb(COM1 + 3, 0x80); /* divisor latch */
    outb(COM1 + 0, 1);
    outb(COM1 + 1, 0);
    outb(COM1 + 3, 3); /* 8N1 */
    outb(COM1 + 2, 7); /* FIFO on and empty */
    outb(COM1 + 4, 3); /* DTR, RTS */
}

/* Waits for a bit of the line status; bounded, for a machine without COM1 may read 00h for ever. */
static void wait_for(uint8_t bit)
{
    for (unsigned i = 0; i < 1000000 && !(inb(COM1 + 5) & bit); i++) pause();
}

void console_putc(char c)
{
    wait_for(0x20); /* room for a character */
    outb(COM1, (uint8_t)c);
}

void console_drain(void) { wait_for(0x40); /* transmitter empty */ }

static void put(char c)
{
    if (c == '\n') console_putc('\r');
    console_putc(c);
}

static void pad(char c, int n)
{
    while (n-- > 0) put(c);
}

static void put_text(const char *s, int length, int width, bool left)
{
    if (!left) pad(' ', width - length);
    for (int i = 0; i < length; i++) put(s[i]);
    if (left) pad(' ', width - length);
}

static void put_number(uint64_t v, unsigned base, bool negative, int width, bool left, bool zero)
{
    char digits[24];
    int n = 0;
    do {
        digits[sizeof(digits) - ++n] = "0123456789abcdef"[v % base];
        v /= base;
    } while (v);
    if (negative && !zero) digits[sizeof(digits) - ++n] = '-';
    if (negative && zero) put('-');
    if (zero) pad('0', width - n - negative);
    put_text(digits + sizeof(digits) - n, n, zero ? 0 : width, left);
}

void vprint(const char *format, __builtin_va_list ap)
{
    for (; *format; format++) {
        if (*format != '%') {
            put(*format);
            continue;
        }
        bool left = false, zero = false;
        int width = 0, longs = 0;
        for (format++; *format == '-' || *format == '0'; format++) {
            if (*format == '-')
                left = true;
            else
                zero = true;
        }
        if (*format == '*') {
            width = __builtin_va_arg(ap, int);
            format++;
        }
        for (; *format >= '0' && *format <= '9'; format++) width = width * 10 + *format - '0';
        for (; *format == 'l' || *format == 'z'; format++) longs++;
        uint64_t v;
        switch (*format) {
        case 'c': {
            char c = (char)__builtin_va_arg(ap, int);
            put_text(&c, 1, width, left);
            break;
        }
        case 's': {
            const char *s = __builtin_va_arg(ap, const char *);
            put_text(s, (int)strlen(s), width, left);
            break;
        }
        case 'd': {
            int64_t d = longs ? __builtin_va_arg(ap, int64_t) : __builtin_va_arg(ap, int);
            put_number(d < 0 ? -(uint64_t)d : (uint64_t)d, 10, d < 0, width, left, zero);
            break;
        }
        case 'u':
        case 'x':
            v = longs ? __builtin_va_arg(ap, uint64_t) : __builtin_va_arg(ap, unsigned);
            put_number(v, *format == 'u' ? 10 : 16, false, width, left, zero);
            break;
        case 'p': put_number(__builtin_va_arg(ap, uint64_t), 16, false, 16, false, true); break;
        case '%': put('%'); break;
        default: put('?'); return;
        }
    }
}

void print(const char *format, ...)
{
    __builtin_va_list ap;
    __builtin_va_start(ap, format);
    vprint(format, ap);
    __builtin_va_end(ap);
}
