// clang-format off
// The local APIC's registers, by memory (xAPIC) and by MSR (x2APIC), and IA32_APIC_BASE.
//
//   offset  MSR   register               offset   MSR      register
//   020     802   ID                     100-170  810-817  ISR
//   030     803   version                180-1F0  818-81F  TMR
//   080     808   TPR                    200-270  820-827  IRR
//   090     -     APR (reads 0)          280      828      ESR
//   0A0     80A   PPR                    300,310  830      ICR
//   0B0     80B   EOI                    320-370  832-837  LVT: timer, thermal, performance, LINT0, LINT1, error
//   0D0     80D   LDR                    380,390  838,839  initial count, current count
//   0E0     -     DFR                    3E0      83E      divide configuration
//   0F0     80F   SVR                    -        83F      SELF IPI
//
// Memory accesses: the manual defines 32-bit ones on 16-byte boundaries. Narrower or wider reads see the register's
// bytes (zeros beyond them); other writes are dropped and counted.
// Source: SDM volume 3, "Local APIC Register Address Map", "x2APIC Register Address Space", "x2APIC State Transitions".
// clang-format on
#include "devices/lapic_internal.h"

// clang-format off
enum {
    REG_ID = 0x02, REG_VERSION, REG_TPR = 0x08, REG_APR, REG_PPR, REG_EOI, REG_RRD, REG_LDR, REG_DFR, REG_SVR,
    REG_ISR = 0x10, REG_TMR = 0x18, REG_IRR = 0x20, REG_ESR = 0x28, REG_ICR = 0x30, REG_ICR_HIGH, REG_LVT,
    REG_INITIAL = 0x38, REG_CURRENT, REG_DIVIDE = 0x3E, REG_SELF_IPI
};
// clang-format on

#define VERSION (0x14u | (LAPIC_LVTS - 1) << 16)

static const u32 lvt_writable[LAPIC_LVTS] = {
    [LAPIC_LVT_TIMER] = 0x700FF, [LAPIC_LVT_THERMAL] = 0x107FF, [LAPIC_LVT_PERF] = 0x107FF,
    [LAPIC_LVT_LINT0] = 0x1A7FF, [LAPIC_LVT_LINT1] = 0x1A7FF,   [LAPIC_LVT_ERROR] = 0x100FF,
};

static u32 lvt_mask(const struct lapic *l, unsigned n)
{
    return lvt_writable[n] & ~(n == LAPIC_LVT_TIMER && l->no_tsc_deadline ? 1u << 18 : 0);
}

#define ICR_WRITABLE 0xCCFFFu // bit 12 (delivery status) is read-only, 13 and 17:16 are reserved
#define SVR_WRITABLE 0x3FFu

static bool read_reg(struct lapic *l, unsigned reg, u32 *v)
{
    const struct lapic_state *s = &l->st;
    *v = 0;
    if (reg >= REG_ISR && reg < REG_TMR) {
        *v = s->isr[reg - REG_ISR];
        return true;
    }
    if (reg >= REG_TMR && reg < REG_IRR) {
        *v = s->tmr[reg - REG_TMR];
        return true;
    }
    if (reg >= REG_IRR && reg < REG_ESR) {
        *v = s->irr[reg - REG_IRR];
        return true;
    }
    if (reg >= REG_LVT && reg < REG_LVT + LAPIC_LVTS) {
        *v = s->lvt[reg - REG_LVT];
        return true;
    }
    switch (reg) {
    case REG_ID: *v = lapic_x2apic(l) ? s->id : s->id << 24; return true;
    case REG_VERSION: *v = VERSION; return true;
    case REG_TPR: *v = s->tpr; return true;
    case REG_APR: return true;
    case REG_PPR: *v = lapic_ppr(l); return true;
    case REG_EOI: return true;
    case REG_LDR: *v = s->ldr; return true;
    case REG_DFR: *v = s->dfr; return true;
    case REG_SVR: *v = s->svr; return true;
    case REG_ESR: *v = s->esr; return true;
    case REG_ICR: *v = s->icr_low; return true;
    case REG_ICR_HIGH: *v = s->icr_high; return true;
    case REG_INITIAL: *v = lapic_timer_mode(l) == TIMER_TSC_DEADLINE ? 0 : s->timer_initial; return true;
    case REG_CURRENT: *v = lapic_timer_count(l); return true;
    case REG_DIVIDE: *v = s->timer_divide; return true;
    default: return false;
    }
}

static void write_lvt(struct lapic *l, unsigned n, u32 v)
{
    v &= lvt_mask(l, n);
    // mask bits stay set while the APIC is disabled by software
    if (!(l->st.svr & SVR_ENABLE)) v |= LVT_MASKED;
    v |= l->st.lvt[n] & LVT_REMOTE_IRR;
    if (n == LAPIC_LVT_TIMER) {
        lapic_timer_set_lvt(l, v);
        return;
    }
    l->st.lvt[n] = v;
    bool level_fixed = n == LAPIC_LVT_LINT0 && (v >> 8 & 7) == DELIVER_FIXED && v & LVT_LEVEL;
    if (level_fixed && l->st.lint[0] && !(v & (LVT_MASKED | LVT_REMOTE_IRR))) lapic_local(l, n);
}

static void write_svr(struct lapic *l, u32 v)
{
    l->st.svr = v & SVR_WRITABLE;
    if (l->st.svr & SVR_ENABLE) return;
    for (unsigned i = 0; i < LAPIC_LVTS; i++)
        if (i == LAPIC_LVT_TIMER)
            lapic_timer_set_lvt(l, l->st.lvt[i] | LVT_MASKED);
        else
            l->st.lvt[i] |= LVT_MASKED;
}

// Registers that both modes write alike. False: none such.
static bool write_reg(struct lapic *l, unsigned reg, u32 v)
{
    struct lapic_state *s = &l->st;
    if (reg >= REG_LVT && reg < REG_LVT + LAPIC_LVTS) {
        write_lvt(l, reg - REG_LVT, v);
    } else {
        switch (reg) {
        case REG_TPR: s->tpr = v & 0xFF; break;
        case REG_EOI: lapic_eoi(l); break;
        case REG_SVR: write_svr(l, v); break;
        case REG_ESR: // shows what was gathered since the last write
            s->esr = s->errors;
            s->errors = 0;
            break;
        case REG_ICR:
            s->icr_low = v & ICR_WRITABLE;
            lapic_send_ipi(l);
            break;
        case REG_INITIAL: lapic_timer_start(l, v); break;
        case REG_DIVIDE: lapic_timer_set_divide(l, v & 0x0B); break;
        default: return false;
        }
    }
    lapic_update(l);
    return true;
}

static bool read_only(unsigned reg)
{
    return reg == REG_VERSION || reg == REG_PPR || reg == REG_APR || (reg >= REG_ISR && reg < REG_ESR) ||
           reg == REG_CURRENT;
}

u32 lapic_mmio_read(struct lapic *l, u32 offset, unsigned size)
{
    u32 v = 0;
    unsigned byte = offset & 15;
    if (offset >= 0x400 || !read_reg(l, offset >> 4, &v)) {
        lapic_error(l, ESR_ILLEGAL_REGISTER);
        return 0;
    }
    if (byte >= 4) return 0;
    v >>= byte * 8;
    return size >= 4 ? v : v & ((1u << size * 8) - 1);
}

void lapic_mmio_write(struct lapic *l, u32 offset, unsigned size, u32 value)
{
    struct lapic_state *s = &l->st;
    unsigned reg = offset >> 4;
    if (offset & 15 || size != 4) {
        device_unimplemented(&l->dev, "lapic: write that is not 32 bits on a 16-byte boundary");
        return;
    }
    switch (reg) {
    case REG_ID: s->id = value >> 24; break;
    case REG_LDR: s->ldr = value & 0xFF000000; break;
    case REG_DFR: s->dfr = value | 0x0FFFFFFF; break;
    case REG_ICR_HIGH: s->icr_high = value & 0xFF000000; break;
    default:
        if (!write_reg(l, reg, value) && !read_only(reg)) lapic_error(l, ESR_ILLEGAL_REGISTER);
    }
}

// ---- IA32_APIC_BASE ----

enum { BASE_EXTD = 1 << 10, BASE_EN = 1 << 11 };

static bool write_base(struct lapic *l, u64 v)
{
    u64 old = l->st.apic_base;
    u32 was = old & (BASE_EN | BASE_EXTD), is = v & (BASE_EN | BASE_EXTD);
    if (v & l->base_reserved) return false;
    if (is == BASE_EXTD) return false;                     // no such state
    if (is == (BASE_EN | BASE_EXTD) && !was) return false; // disabled to x2APIC: by way of xAPIC only
    if (was == (BASE_EN | BASE_EXTD) && is == BASE_EN) return false; // back to xAPIC: by way of disabled only
    l->st.apic_base = v;
    if (was && !is) { // what is enabled again later is in the power-up state
        l->st.id = (u8)l->initial_id;
        lapic_power_up(l);
    } else if (was == BASE_EN && is == (BASE_EN | BASE_EXTD)) {
        // the ID is the hardware's in x2APIC mode, LDR derives from it, ICR's upper half is cleared
        l->st.id = l->initial_id;
        l->st.ldr = lapic_x2apic_ldr(l->st.id);
        l->st.icr_high = 0;
    }
    lapic_update(l);
    return true;
}

// ---- MSRs ----

bool lapic_msr_read(struct lapic *l, u32 msr, u64 *value)
{
    if (msr == 0x1B) {
        *value = l->st.apic_base;
        return true;
    }
    if (msr == 0x6E0) {
        *value = l->st.tsc_deadline;
        return true;
    }
    unsigned reg = msr - 0x800;
    if (reg >= 0x100 || !lapic_x2apic(l)) return false;
    u32 v;
    // EOI is write-only
    bool absent = reg == REG_APR || reg == REG_DFR || reg == REG_ICR_HIGH || reg == REG_EOI;
    if (absent || !read_reg(l, reg, &v)) return false;
    *value = reg == REG_ICR ? (u64)l->st.icr_high << 32 | v : v;
    return true;
}

bool lapic_msr_write(struct lapic *l, u32 msr, u64 value)
{
    if (msr == 0x1B) return write_base(l, value);
    if (msr == 0x6E0) {
        lapic_timer_set_deadline(l, value);
        return true;
    }
    unsigned reg = msr - 0x800;
    if (reg >= 0x100 || !lapic_x2apic(l)) return false;
    u64 allowed = 0; // bits that may be set; others are #GP (SDM, Reserved Bit Checking)
    if (reg >= REG_LVT && reg < REG_LVT + LAPIC_LVTS) {
        // Delivery status and remote IRR are read-only, not reserved.
        bool lint = reg == REG_LVT + LAPIC_LVT_LINT0 || reg == REG_LVT + LAPIC_LVT_LINT1;
        allowed = lvt_mask(l, reg - REG_LVT) | 0x1000 | (lint ? LVT_REMOTE_IRR : 0);
    } else {
        switch (reg) {
        case REG_TPR:
        case REG_SELF_IPI: allowed = 0xFF; break;
        case REG_EOI:
        case REG_ESR: break; // only 0 may be written
        case REG_SVR: allowed = SVR_WRITABLE; break;
        // Bit 12, the delivery status of xAPIC mode, is unused and ignored (SDM 32.5: it is not among what is
        // #GP).
        case REG_ICR: allowed = 0xFFFFFFFF00000000ull | ICR_WRITABLE | 0x1000; break;
        case REG_INITIAL: allowed = 0xFFFFFFFF; break;
        case REG_DIVIDE: allowed = 0x0B; break;
        default: return false;
        }
    }
    if (value & ~allowed) return false;
    if (reg == REG_ICR) {
        l->st.icr_high = (u32)(value >> 32);
    } else if (reg == REG_SELF_IPI) {
        if (value < 16)
            lapic_error(l, ESR_SEND_ILLEGAL);
        else
            lapic_apply_fixed(l, (u8)value, false);
        return true;
    }
    return write_reg(l, reg, (u32)value);
}
