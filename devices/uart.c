// clang-format off
// 16550A. Source: National Semiconductor PC16550D data sheet (section numbers in comments are its own).
//
//   +0  DLAB=0: RBR (read), THR (write)          DLAB=1: divisor, low byte
//   +1  DLAB=0: IER 0 RDA, 1 THRE, 2 RLS, 3 MS   DLAB=1: divisor, high byte
//   +2  IIR (read), FCR (write): 0 enable, 1 clear receiver, 2 clear transmitter, 7:6 trigger 1, 4, 8, 14
//   +3  LCR: 1:0 word length, 2 stop bits, 3 parity on, 6 break, 7 DLAB
//   +4  MCR: 0 DTR, 1 RTS, 2 OUT1, 3 OUT2 (on a PC: connects INTR to the interrupt line), 4 loop
//   +5  LSR: 0 DR, 1 OE, 4 BI, 5 THRE, 6 TEMT; write ignored
//   +6  MSR: 3:0 changes, 4 CTS, 5 DSR, 6 RI, 7 DCD; write ignored
//   +7  SCR
//
// The transmitter is empty at once: a byte leaves in the instant in which it is written. The receiver takes a byte
// whenever it has room, so nothing from the host overruns (only the loop can). The line is always ready (CTS, DSR and
// DCD on). Not here: line speed (but for the character timeout), parity and framing errors, a break on the line (only
// in the loop), DMA mode.
// clang-format on
#include "devices/uart.h"

#include <string.h>

enum { IER_RDA = 1, IER_THRE = 2, IER_RLS = 4, IER_MS = 8 };
enum { IIR_NONE = 1, IIR_MS = 0, IIR_THRE = 2, IIR_RDA = 4, IIR_RLS = 6, IIR_TIMEOUT = 12 };
enum { FCR_ENABLE = 1, FCR_CLEAR_RX = 2, FCR_CLEAR_TX = 4 };
enum { LCR_BREAK = 0x40, LCR_DLAB = 0x80 };
enum { MCR_DTR = 1, MCR_RTS = 2, MCR_OUT1 = 4, MCR_OUT2 = 8, MCR_LOOP = 0x10 };
enum { LSR_DR = 1, LSR_OE = 2, LSR_PE = 4, LSR_FE = 8, LSR_BI = 0x10, LSR_THRE = 0x20, LSR_TEMT = 0x40 };
enum { MSR_CTS = 0x10, MSR_DSR = 0x20, MSR_RI = 0x40, MSR_DCD = 0x80, MSR_TERI = 4, MSR_CHANGES = 0x0F };

static unsigned trigger_level(const struct uart_state *s)
{
    static const u8 level[4] = {1, 4, 8, 14};
    return s->fcr & FCR_ENABLE ? level[s->fcr >> 6] : 1;
}

// The interrupt of the highest priority that is enabled and pending (8.6, table IV).
static u8 source(const struct uart_state *s)
{
    if (s->ier & IER_RLS && s->lsr & (LSR_OE | LSR_PE | LSR_FE | LSR_BI)) return IIR_RLS;
    if (s->ier & IER_RDA && s->fifo_n >= trigger_level(s)) return IIR_RDA;
    if (s->ier & IER_RDA && s->timeout_pending) return IIR_TIMEOUT;
    if (s->ier & IER_THRE && s->thre_pending) return IIR_THRE;
    if (s->ier & IER_MS && s->msr & MSR_CHANGES) return IIR_MS;
    return IIR_NONE;
}

static void update(struct uart *u) { irq_set(&u->irq, source(&u->st) != IIR_NONE && u->st.mcr & MCR_OUT2); }

// Four character times: start, data, parity and stop bits at 16 clocks of 1.8432 MHz by the divisor (8.9).
static u64 four_characters(const struct uart_state *s)
{
    u64 bits = 1 + 5 + (s->lcr & 3) + (s->lcr >> 3 & 1) + 1 + (s->lcr >> 2 & 1);
    u64 divisor = s->divisor ? s->divisor : 1;
    return clock_from_hz(4 * bits * 16 * divisor, 1843200);
}

static void run_timeout(struct uart *u)
{
    struct uart_state *s = &u->st;
    bool runs = s->fcr & FCR_ENABLE && s->fifo_n && !s->timeout_pending;
    s->timeout_at = runs ? u->dev.clock->now + four_characters(s) : CLOCK_NEVER;
    clock_timer_set(u->dev.clock, u->timer, s->timeout_at);
}

static void receive(struct uart *u, u8 byte)
{
    struct uart_state *s = &u->st;
    if (!(s->fcr & FCR_ENABLE) && s->fifo_n) { // the character register is overwritten (8.4)
        s->lsr |= LSR_OE;
        s->fifo[0] = byte;
    } else if (s->fifo_n == UART_FIFO) { // with the FIFO, the shift register is (8.4)
        s->lsr |= LSR_OE;
    } else {
        s->fifo[s->fifo_n++] = byte;
    }
    s->lsr |= LSR_DR;
    s->timeout_pending = 0;
    run_timeout(u);
}

// What waits in the host's queue goes in while there is room; a looped receiver is cut off from the line.
static void refill(struct uart *u)
{
    struct uart_state *s = &u->st;
    unsigned room = s->fcr & FCR_ENABLE ? UART_FIFO : 1;
    while (s->queue_n && s->fifo_n < room && !(s->mcr & MCR_LOOP)) {
        u8 byte = s->queue[s->queue_first];
        s->queue_first = (s->queue_first + 1) % UART_QUEUE;
        s->queue_n--;
        receive(u, byte);
    }
}

u32 uart_input_room(const struct uart *u) { return UART_QUEUE - u->st.queue_n; }

u32 uart_input(struct uart *u, const u8 *bytes, u32 n)
{
    struct uart_state *s = &u->st;
    if (n > uart_input_room(u)) n = uart_input_room(u);
    for (u32 i = 0; i < n; i++) s->queue[(s->queue_first + s->queue_n++) % UART_QUEUE] = bytes[i];
    refill(u);
    update(u);
    return n;
}

static u8 read_rbr(struct uart *u)
{
    struct uart_state *s = &u->st;
    u8 byte = s->fifo[0];
    if (s->fifo_n) {
        s->fifo_n--;
        memmove(s->fifo, s->fifo + 1, s->fifo_n);
    }
    if (!s->fifo_n) s->lsr &= (u8)~LSR_DR;
    s->timeout_pending = 0;
    // The request drops for an instant between two characters: an edge-triggered controller sees the next
    // one.
    if (s->fifo_n < trigger_level(s)) update(u);
    refill(u);
    run_timeout(u);
    return byte;
}

static u8 read_iir(struct uart *u)
{
    struct uart_state *s = &u->st;
    u8 id = source(s);
    // reading IIR is what resets it, if it is the source shown (table IV)
    if (id == IIR_THRE) s->thre_pending = 0;
    return id | (s->fcr & FCR_ENABLE ? 0xC0 : 0);
}

static void modem_lines(struct uart_state *s)
{
    u8 now = MSR_CTS | MSR_DSR | MSR_DCD;
    if (s->mcr & MCR_LOOP)
        now = (u8)((s->mcr & MCR_RTS ? MSR_CTS : 0) | (s->mcr & MCR_DTR ? MSR_DSR : 0) |
                   (s->mcr & MCR_OUT1 ? MSR_RI : 0) | (s->mcr & MCR_OUT2 ? MSR_DCD : 0));
    u8 changed = (s->msr ^ now) >> 4;
    if (!(s->msr & MSR_RI)) changed &= (u8)~MSR_TERI; // the trailing edge of RI only
    s->msr = (u8)(now | (s->msr & MSR_CHANGES) | changed);
}

static void write_thr(struct uart *u, u8 byte)
{
    struct uart_state *s = &u->st;
    if (s->mcr & MCR_LOOP)
        receive(u, byte);
    else
        chardev_write(&u->chr, byte);
    s->thre_pending = 0; // the write resets the old one; the line below is the transmitter, empty again
    update(u);
    s->thre_pending = 1;
}

static void write_ier(struct uart_state *s, u8 v)
{
    bool thre_on = v & IER_THRE && !(s->ier & IER_THRE);
    s->ier = v & 0x0F;
    if (thre_on) s->thre_pending = 1; // enabling it with an empty transmitter requests at once (8.6)
    if (!(v & IER_THRE)) s->thre_pending = 0;
}

static void write_fcr(struct uart *u, u8 v)
{
    struct uart_state *s = &u->st;
    bool toggled = (v ^ s->fcr) & FCR_ENABLE;
    if (toggled || (v & FCR_ENABLE && v & FCR_CLEAR_RX)) {
        s->fifo_n = 0;
        s->lsr &= (u8) ~(LSR_DR | LSR_BI);
        s->timeout_pending = 0;
    }
    if (toggled || (v & FCR_ENABLE && v & FCR_CLEAR_TX)) s->thre_pending = 1;
    s->fcr = v & FCR_ENABLE ? v & 0xC9 : 0; // the other bits are written only with bit 0 set (8.5)
    run_timeout(u);
}

static u64 uart_read(struct device *d, unsigned region, u64 offset, unsigned size)
{
    (void)region, (void)size;
    struct uart *u = (struct uart *)d;
    struct uart_state *s = &u->st;
    u8 v = 0;
    switch (offset) {
    case 0: v = s->lcr & LCR_DLAB ? (u8)s->divisor : read_rbr(u); break;
    case 1: v = s->lcr & LCR_DLAB ? (u8)(s->divisor >> 8) : s->ier; break;
    case 2: v = read_iir(u); break;
    case 3: v = s->lcr; break;
    case 4: v = s->mcr; break;
    case 5:
        v = s->lsr;
        s->lsr &= (u8) ~(LSR_OE | LSR_PE | LSR_FE | LSR_BI);
        break;
    case 6:
        v = s->msr;
        s->msr &= (u8)~MSR_CHANGES;
        break;
    default: v = s->scr; break;
    }
    update(u);
    return v;
}

static void uart_write(struct device *d, unsigned region, u64 offset, unsigned size, u64 value)
{
    (void)region, (void)size;
    struct uart *u = (struct uart *)d;
    struct uart_state *s = &u->st;
    u8 v = (u8)value;
    switch (offset) {
    case 0:
        if (s->lcr & LCR_DLAB)
            s->divisor = (u16)((s->divisor & 0xFF00) | v);
        else
            write_thr(u, v);
        break;
    case 1:
        if (s->lcr & LCR_DLAB)
            s->divisor = (u16)((s->divisor & 0x00FF) | v << 8);
        else
            write_ier(s, v);
        break;
    case 2: write_fcr(u, v); break;
    case 3:
        if (v & LCR_BREAK && !(s->lcr & LCR_BREAK) && s->mcr & MCR_LOOP) {
            receive(u, 0);
            s->lsr |= LSR_BI;
        }
        s->lcr = v;
        break;
    case 4:
        s->mcr = v & 0x1F;
        modem_lines(s);
        break;
    case 7: s->scr = v; break;
    default: break;
    }
    refill(u);
    update(u);
}

static void uart_tick(struct device *d, unsigned id)
{
    (void)id;
    struct uart *u = (struct uart *)d;
    u->st.timeout_at = CLOCK_NEVER;
    if (u->st.fifo_n) u->st.timeout_pending = 1;
    update(u);
}

bool uart_input_interrupts(const struct uart *u)
{
    const struct uart_state *s = &u->st;
    return s->ier & IER_RDA && s->mcr & MCR_OUT2 && !(s->mcr & MCR_LOOP) && source(s) == IIR_NONE;
}

static u64 uart_raises(const struct device *d, unsigned id)
{
    const struct uart *u = (const struct uart *)d;
    return u->st.ier & IER_RDA && u->st.mcr & MCR_OUT2 && source(&u->st) == IIR_NONE ? DEVICE_ISA(u->irq.n)
                                                                                     : 0;
}

static void uart_reset(struct device *d)
{
    struct uart *u = (struct uart *)d;
    u->st = (struct uart_state){
        .timeout_at = CLOCK_NEVER,
        .divisor = 12, // 9600 baud; the data sheet leaves it undefined
        .lsr = LSR_THRE | LSR_TEMT,
        .msr = MSR_CTS | MSR_DSR | MSR_DCD,
    };
    clock_timer_set(u->dev.clock, u->timer, CLOCK_NEVER);
    update(u);
}

static void uart_loaded(struct device *d)
{
    struct uart *u = (struct uart *)d;
    clock_timer_set(u->dev.clock, u->timer, u->st.timeout_at);
    update(u);
}

static const char *uart_impossible(const struct device *d, const void *state)
{
    const struct uart_state *s = state;
    if (s->fifo_n > UART_FIFO || s->queue_first >= UART_QUEUE || s->queue_n > UART_QUEUE)
        return "a queue of bytes is longer than there is room";
    return NULL;
}

static const struct device_ops uart_ops = {
    .name = "uart",
    .impossible = uart_impossible,
    .state_version = 1,
    .max_size = 1,
    .reset = uart_reset,
    .read = uart_read,
    .write = uart_write,
    .tick = uart_tick,
    .raises = uart_raises,
    .loaded = uart_loaded,
};

void uart_init(struct uart *u, struct bus *b, struct clock *c, u16 port)
{
    memset(u, 0, sizeof *u);
    u->dev = (struct device){.ops = &uart_ops, .clock = c, .state = &u->st, .state_size = sizeof u->st};
    u->timer = clock_timer_add(c, &u->dev, 0);
    bus_map_port(b, &u->dev, 0, port, 8);
}
