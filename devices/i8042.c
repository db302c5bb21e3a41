// clang-format off
// 8042 keyboard controller. Sources: IBM PS/2 Hardware Interface Technical Reference (keyboard and auxiliary device
// controller, keyboard, mouse).
//
//   60h  data                64h  read: status 0 OBF, 1 IBF, 2 system, 3 last write was a command, 4 not locked, 5 aux
//   64h  write: commands 20/60 command byte, 21-3F/61-7F internal memory (reads 0), A7/A8 aux off/on, A9 test aux,
//        AA self-test, AB test keyboard, AD/AE keyboard off/on, C0 input port, D0/D1 output port, D2/D3 answer as
//        keyboard/aux, D4 to aux, DD/DF A20 off/on (as compatible chips), F0-FF pulse (bit 0 low: reset)
//
// Keyboard and mouse answer their commands; nobody types or moves yet. Translation to scan code set 1 (command byte
// bit 6) acts on the keyboard's ID, the only translated bytes there are. Not here: time on the wire (an answer is
// there at once), parity errors, the password commands.
// clang-format on
#include "devices/i8042.h"

#include <string.h>

enum { REGION_DATA, REGION_COMMAND };
enum { STATUS_OBF = 1, STATUS_SYSTEM = 4, STATUS_COMMAND = 8, STATUS_UNLOCKED = 0x10, STATUS_AUX = 0x20 };
// clang-format off
enum { CTR_KBD_IRQ = 1, CTR_AUX_IRQ = 2, CTR_SYSTEM = 4, CTR_KBD_OFF = 0x10, CTR_AUX_OFF = 0x20, CTR_TRANSLATE = 0x40 };
// clang-format on
enum { OUT_RUN = 1, OUT_A20 = 2, OUT_KBD_FULL = 0x10, OUT_AUX_FULL = 0x20 };
enum { ACK = 0xFA, SELF_TEST_PASSED = 0xAA, RESEND = 0xFE };

static void put(struct i8042_queue *q, u8 byte)
{
    if (q->n == I8042_QUEUE) return; // a keyboard that is not read overruns
    q->byte[(q->first + q->n++) % I8042_QUEUE] = byte;
}

static u8 take(struct i8042_queue *q)
{
    u8 byte = q->byte[q->first];
    q->first = (q->first + 1) % I8042_QUEUE;
    q->n--;
    return byte;
}

static void lines(struct i8042 *k)
{
    struct i8042_state *s = &k->st;
    bool full = s->status & STATUS_OBF, aux = s->status & STATUS_AUX;
    s->outport &= (u8) ~(OUT_KBD_FULL | OUT_AUX_FULL);
    if (full) s->outport |= aux ? OUT_AUX_FULL : OUT_KBD_FULL;
    irq_set(&k->irq1, full && !aux && s->ctr & CTR_KBD_IRQ);
    irq_set(&k->irq12, full && aux && s->ctr & CTR_AUX_IRQ);
}

// Fills the output buffer from whoever has something to say: the controller, the keyboard, the mouse.
static void update(struct i8042 *k)
{
    struct i8042_state *s = &k->st;
    if (!(s->status & STATUS_OBF)) {
        if (s->own.n) {
            s->out = take(&s->own);
            s->status = (u8)((s->status & ~STATUS_AUX) | STATUS_OBF);
        } else if (s->own_aux.n) {
            s->out = take(&s->own_aux);
            s->status |= STATUS_OBF | STATUS_AUX;
        } else if (s->kbd.out.n && !(s->ctr & CTR_KBD_OFF)) {
            s->out = take(&s->kbd.out);
            if (s->ctr & CTR_TRANSLATE && s->out == 0x83) s->out = 0x41; // set 2 to set 1
            s->status = (u8)((s->status & ~STATUS_AUX) | STATUS_OBF);
        } else if (s->aux.out.n && !(s->ctr & CTR_AUX_OFF)) {
            s->out = take(&s->aux.out);
            s->status |= STATUS_OBF | STATUS_AUX;
        }
    }
    lines(k);
}

static void set_outport(struct i8042 *k, u8 v)
{
    u8 old = k->st.outport;
    k->st.outport = (u8)((v & (OUT_RUN | OUT_A20)) | (old & (OUT_KBD_FULL | OUT_AUX_FULL)));
    if ((old ^ v) & OUT_A20 && k->a20) k->a20(k->to);
    if (!(v & OUT_RUN) && k->reset_line) k->reset_line(k->to);
}

static void defaults(struct i8042_device *d, bool mouse)
{
    d->command = 0;
    d->rate = mouse ? 100 : 0x2B;
    d->resolution = 2;
    d->scaling = 0;
    d->set = 2;
}

static void to_keyboard(struct i8042_device *d, u8 v)
{
    u8 command = d->command;
    d->command = 0;
    if (command && v < 0x80) { // its parameter
        put(&d->out, ACK);
        if (command == 0xED) d->leds = v & 7;
        if (command == 0xF3) d->rate = v;
        if (command == 0xF0) {
            if (v == 0)
                put(&d->out, d->set);
            else if (v <= 3)
                d->set = v;
        }
        return;
    }
    switch (v) {
    case 0xED:
    case 0xF0:
    case 0xF3: // LEDs, scan code set, typematic rate
        d->command = v;
        put(&d->out, ACK);
        break;
    case 0xEE: put(&d->out, 0xEE); break; // echo
    case 0xF2:
        put(&d->out, ACK);
        put(&d->out, 0xAB);
        put(&d->out, 0x83);
        break;
    case 0xF4:
    case 0xF5:
    case 0xF6:
        if (v != 0xF4) defaults(d, false);
        if (v != 0xF6) d->enabled = v == 0xF4;
        put(&d->out, ACK);
        break;
    case 0xFF:
        d->out.n = 0;
        defaults(d, false);
        d->leds = 0;
        d->enabled = 1;
        put(&d->out, ACK);
        put(&d->out, SELF_TEST_PASSED);
        break;
    default: put(&d->out, RESEND); break;
    }
}

static void to_mouse(struct i8042_device *d, u8 v)
{
    u8 command = d->command;
    d->command = 0;
    if (command) {
        if (command == 0xE8) d->resolution = v;
        if (command == 0xF3) d->rate = v;
        put(&d->out, ACK);
        return;
    }
    switch (v) {
    case 0xE8:
    case 0xF3: // resolution, sample rate
        d->command = v;
        put(&d->out, ACK);
        break;
    case 0xE6:
    case 0xE7:
        d->scaling = v == 0xE7;
        put(&d->out, ACK);
        break;
    case 0xE9: // status: enabled and scaling, resolution, rate
        put(&d->out, ACK);
        put(&d->out, (u8)(d->enabled << 5 | d->scaling << 4));
        put(&d->out, d->resolution);
        put(&d->out, d->rate);
        break;
    case 0xEA: put(&d->out, ACK); break; // stream mode
    case 0xEB:                           // no movement
        put(&d->out, ACK);
        put(&d->out, 0x08);
        put(&d->out, 0);
        put(&d->out, 0);
        break;
    case 0xF2:
        put(&d->out, ACK);
        put(&d->out, 0x00); // a plain PS/2 mouse
        break;
    case 0xF4:
    case 0xF5:
    case 0xF6:
        if (v == 0xF6) defaults(d, true);
        d->enabled = v == 0xF4;
        put(&d->out, ACK);
        break;
    case 0xFF:
        d->out.n = 0;
        defaults(d, true);
        d->enabled = 0;
        put(&d->out, ACK);
        put(&d->out, SELF_TEST_PASSED);
        put(&d->out, 0x00);
        break;
    default: put(&d->out, RESEND); break;
    }
}

static void answer(struct i8042 *k, u8 byte) { put(&k->st.own, byte); }

static void command(struct i8042 *k, u8 v)
{
    struct i8042_state *s = &k->st;
    s->command = 0;
    switch (v) {
    case 0x20: answer(k, s->ctr); return;
    case 0x60:
    case 0xD1:
    case 0xD2:
    case 0xD3:
    case 0xD4: s->command = v; return;
    case 0xA7: s->ctr |= CTR_AUX_OFF; return;
    case 0xA8: s->ctr &= (u8)~CTR_AUX_OFF; return;
    case 0xA9: answer(k, 0x00); return;
    case 0xAA:
        s->status |= STATUS_SYSTEM;
        answer(k, 0x55);
        return;
    case 0xAB: answer(k, 0x00); return;
    case 0xAD: s->ctr |= CTR_KBD_OFF; return;
    case 0xAE: s->ctr &= (u8)~CTR_KBD_OFF; return;
    case 0xC0: answer(k, 0x80); return; // not locked
    case 0xD0: answer(k, s->outport); return;
    case 0xDD: set_outport(k, s->outport & (u8)~OUT_A20); return;
    case 0xDF: set_outport(k, s->outport | OUT_A20); return;
    default: break;
    }
    // pulses the low bits of the output port that are 0 in the command; only the reset is wired
    if (v >= 0xF0) {
        if (!(v & 1) && k->reset_line) k->reset_line(k->to);
    } else if (v > 0x20 && v < 0x40) {
        answer(k, 0);
    } else if (v > 0x60 && v < 0x80) {
        s->command = v;
    } else {
        device_unimplemented(&k->dev, "i8042: controller command");
    }
}

static void data(struct i8042 *k, u8 v)
{
    struct i8042_state *s = &k->st;
    u8 for_command = s->command;
    s->command = 0;
    switch (for_command) {
    case 0: // to the keyboard, which this enables
        s->ctr &= (u8)~CTR_KBD_OFF;
        to_keyboard(&s->kbd, v);
        break;
    case 0x60:
        s->ctr = v;
        s->status = (u8)((s->status & ~STATUS_SYSTEM) | (v & CTR_SYSTEM ? STATUS_SYSTEM : 0));
        break;
    case 0xD1: set_outport(k, v); break;
    case 0xD2: answer(k, v); break;
    case 0xD3: // appears as if the mouse had sent it
        put(&s->own_aux, v);
        break;
    case 0xD4:
        s->ctr &= (u8)~CTR_AUX_OFF;
        to_mouse(&s->aux, v);
        break;
    default: break; // internal memory: not kept
    }
}

static u64 i8042_read(struct device *d, unsigned region, u64 offset, unsigned size)
{
    (void)offset, (void)size;
    struct i8042 *k = (struct i8042 *)d;
    struct i8042_state *s = &k->st;
    if (region == REGION_COMMAND) return s->status | STATUS_UNLOCKED;
    s->status &= (u8)~STATUS_OBF;
    lines(k); // the request drops before the next byte raises it: the inputs are edge triggered
    u8 v = s->out;
    update(k);
    return v;
}

static void i8042_write(struct device *d, unsigned region, u64 offset, unsigned size, u64 value)
{
    (void)offset, (void)size;
    struct i8042 *k = (struct i8042 *)d;
    if (region == REGION_COMMAND) {
        k->st.status |= STATUS_COMMAND;
        command(k, (u8)value);
    } else {
        k->st.status &= (u8)~STATUS_COMMAND;
        data(k, (u8)value);
    }
    update(k);
}

// As firmware leaves it: tested, translating, both interrupts off, A20 open.
static void i8042_reset(struct device *d)
{
    struct i8042 *k = (struct i8042 *)d;
    k->st = (struct i8042_state){
        .ctr = CTR_TRANSLATE | CTR_SYSTEM,
        .outport = OUT_RUN | OUT_A20,
        .status = STATUS_SYSTEM,
    };
    defaults(&k->st.kbd, false);
    defaults(&k->st.aux, true);
    k->st.kbd.enabled = 1;
    lines(k);
}

static void i8042_loaded(struct device *d) { lines((struct i8042 *)d); }

static bool queue_impossible(const struct i8042_queue *q)
{
    return q->first >= I8042_QUEUE || q->n > I8042_QUEUE;
}

static const char *i8042_impossible(const struct device *d, const void *state)
{
    const struct i8042_state *s = state;
    bool bad = queue_impossible(&s->own) || queue_impossible(&s->own_aux) || queue_impossible(&s->kbd.out) ||
               queue_impossible(&s->aux.out);
    return bad ? "a queue of bytes is longer than there is room" : NULL;
}

static const struct device_ops i8042_ops = {
    .name = "i8042",
    .impossible = i8042_impossible,
    .state_version = 1,
    .max_size = 1,
    .reset = i8042_reset,
    .read = i8042_read,
    .write = i8042_write,
    .loaded = i8042_loaded,
};

void i8042_init(struct i8042 *k, struct bus *b, struct clock *c)
{
    memset(k, 0, sizeof *k);
    k->dev = (struct device){.ops = &i8042_ops, .clock = c, .state = &k->st, .state_size = sizeof k->st};
    bus_map_port(b, &k->dev, REGION_DATA, 0x60, 1);
    bus_map_port(b, &k->dev, REGION_COMMAND, 0x64, 1);
}
