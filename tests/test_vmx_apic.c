// APIC virtualization (SDM chapter 32): the APIC-access page offset by offset, the virtual-APIC page, virtual
// interrupts, posted interrupts. Expectations are worked out from the manual's lists, not from the tables of
// the code.
#include "vmx_machine.h"

enum { M_APIC = 0xB0000, M_PID = 0xC0000, M_PT = 0xD0000 };
#define SHADOW    PROC_USE_TPR_SHADOW
#define ACCESSES  PROC2_VIRTUALIZE_APIC_ACCESSES
#define X2APIC    PROC2_VIRTUALIZE_X2APIC_MODE
#define REGISTERS PROC2_APIC_REGISTER_VIRTUALIZATION
#define DELIVERY  PROC2_VIRTUAL_INTERRUPT_DELIVERY

static void pin(struct vmx_machine *m, u32 bits) { m_write(m, VMCS_PIN_BASED_CONTROLS, 0x16 | bits); }
static void proc(struct vmx_machine *m, u32 bits, u32 bits2)
{
    m_write(m, VMCS_PRIMARY_PROC_BASED_CONTROLS,
            m->v->vmx->caps.true_allowed0[GROUP_PROC] | PROC_HLT_EXITING | bits |
                PROC_ACTIVATE_SECONDARY_CONTROLS);
    m_write(m, VMCS_SECONDARY_PROC_BASED_CONTROLS, bits2);
    pin(m, bits2 & DELIVERY ? PIN_EXTERNAL_INTERRUPT_EXITING : 0);
}
static struct vmx_machine *fresh(u32 bits, u32 bits2)
{
    struct vmx_machine *m = m_vmx_new();
    m_vmcs_64(m);
    m_write(m, VMCS_VIRTUAL_APIC_ADDRESS, M_VAPIC);
    m_write(m, VMCS_APIC_ACCESS_ADDRESS, M_APIC);
    proc(m, bits, bits2);
    return m;
}
static s64 again(struct vmx_machine *m, const char *code, unsigned n) // from the start, in root mode's state
{
    m_root_state(m);
    m_write(m, VMCS_GUEST_RIP, M_GUEST);
    return m_enter(m, code, n);
}
#define AGAIN(m, code) again(m, code, sizeof(code) - 1)
static u64 qualification(struct vmx_machine *m) { return m_read(m, VMCS_EXIT_QUALIFICATION); }
static u32 vapic(struct vmx_machine *m, u32 offset) { return phys_read32(&m->phys, 0, M_VAPIC + offset); }
static void set_vapic(struct vmx_machine *m, u32 offset, u32 x)
{
    phys_write32(&m->phys, 0, M_VAPIC + offset, x);
}
#define EXITS(m, code, reason, q) \
    do { \
        assert_int_equal(AGAIN(m, code), reason); \
        assert_int_equal(qualification(m), q); \
    } while (0)

// ---- the APIC-access page, offset by offset ----

// SDM 32.4.2 and 32.4.3.1, in the manual's order.
static const u16 readable[] = {0x020, 0x030, 0x080, 0x0B0, 0x0D0, 0x0E0, 0x0F0, 0x100, 0x110, 0x120, 0x130,
                               0x140, 0x150, 0x160, 0x170, 0x180, 0x190, 0x1A0, 0x1B0, 0x1C0, 0x1D0, 0x1E0,
                               0x1F0, 0x200, 0x210, 0x220, 0x230, 0x240, 0x250, 0x260, 0x270, 0x280, 0x300,
                               0x310, 0x320, 0x330, 0x340, 0x350, 0x360, 0x370, 0x380, 0x3E0};
static const u16 writable[] = {0x020, 0x080, 0x0B0, 0x0D0, 0x0E0, 0x0F0, 0x280, 0x300, 0x310,
                               0x320, 0x330, 0x340, 0x350, 0x360, 0x370, 0x380, 0x3E0};

static bool is_virtualized(u32 bits, u32 bits2, u32 offset, u32 size, bool write)
{
    if (!(bits & SHADOW)) return false;
    if ((offset & 0xC) != 0 || ((offset + size - 1) & 0xC) != 0) return false;
    if (offset == 0x080) return true;
    if (bits2 & DELIVERY && (offset == 0x0B0 || offset == 0x300)) return true;
    if (!(bits2 & REGISTERS)) return false;
    const u16 *list = write ? writable : readable;
    unsigned n = write ? ARRAY_LEN(writable) : ARRAY_LEN(readable);
    for (unsigned i = 0; i < n; i++)
        if (offset >= list[i] && offset + size - 1 <= list[i] + 3u) return true;
    return false;
}

static void one_offset(struct vmx_machine *m, u32 bits, u32 bits2, u32 offset, u32 size, bool write)
{
    u8 code[8] = {size == 2 ? 0x66 : 0x90, (size == 1 ? 0x8A : 0x8B) - (write ? 2 : 0), 0x04, 0x25};
    u32 at = M_APIC + offset, x = 0xA5C3E100 + offset;
    bool crosses = offset + size > PAGE_SIZE;
    memcpy(code + 4, &at, 4);
    m->v->s.gpr[RAX] = write ? 0x00FFB1B2 : 0;
    m_poke(m, M_VAPIC + (crosses ? 0 : offset), &x, size);
    m_root_state(m);
    m_write(m, VMCS_GUEST_RIP, M_GUEST);
    s64 reason = m_enter(m, (const char *)code, sizeof code);
    u32 at_page = 0, kept = 0;
    memcpy(&at_page, m->phys.ram + M_VAPIC + (crosses ? 0 : offset), size);
    memcpy(&kept, &x, size);
    if (bits2 & DELIVERY && offset < 0xA4 && offset + size > 0xA0)
        at_page = kept; // the entry has written VPPR
    if (!is_virtualized(bits, bits2, offset, size, write)) {
        if (reason != EXIT_REASON_APIC_ACCESS || qualification(m) != (offset | (write ? 0x1000 : 0)) ||
            m_read(m, VMCS_GUEST_RIP) != M_GUEST + (size == 2 ? 0 : 1) || at_page != kept ||
            m_read(m, VMCS_VM_EXIT_INSTRUCTION_LENGTH) != (size == 2 ? 8 : 7))
            fail_msg("%s of %u bytes at %x with %x: reason %d, qualification %llx", write ? "write" : "read",
                     size, offset, bits2, (int)reason, (unsigned long long)qualification(m));
        return;
    }
    if (!write) {
        assert_int_equal(reason, EXIT_REASON_HLT);
        assert_int_equal(m->v->s.gpr[RAX], kept);
        return;
    }
    u32 low = 0x00FFB1B2 & (u32)(0xFFFFFFFFull >> (32 - 8 * size));
    if (offset == 0x080) { // with a threshold of 0, and no interrupts
        assert_int_equal(reason, EXIT_REASON_HLT);
        assert_int_equal(vapic(m, 0x080), 0xB2);
    } else if (offset == 0x0B0 && bits2 & DELIVERY) {
        assert_int_equal(reason, EXIT_REASON_HLT);
        assert_int_equal(vapic(m, 0x0B0), 0);
    } else if (offset >= 0x310 && offset <= 0x313) {
        assert_int_equal(reason, EXIT_REASON_HLT);
        assert_int_equal(vapic(m, 0x310) & 0xFFFFFF, 0);
    } else { // trap-like, also the command (no self-IPI)
        if (reason != EXIT_REASON_APIC_WRITE || qualification(m) != offset || at_page != low ||
            m_read(m, VMCS_GUEST_RIP) != M_GUEST + 8)
            fail_msg("write of %u bytes at %x with %x: reason %d, qualification %llx", size, offset, bits2,
                     (int)reason, (unsigned long long)qualification(m));
    }
}

static void every_offset(void **state)
{
    static const u32 bits2[] = {0, DELIVERY, REGISTERS, DELIVERY | REGISTERS};
    for (unsigned i = 0; i < ARRAY_LEN(bits2); i++) {
        struct vmx_machine *m = fresh(SHADOW, ACCESSES | bits2[i]);
        for (u32 offset = 0; offset < PAGE_SIZE; offset += offset < 0x440 || offset >= 0xFF0 ? 1 : 37)
            for (u32 size = 1; size <= 4; size *= 2)
                for (u32 write = 0; write < 2; write++)
                    one_offset(m, SHADOW, ACCESSES | bits2[i], offset, size, write);
        m_free(m);
    }
    struct vmx_machine *m = fresh(0, ACCESSES); // no TPR shadow: all of them exit
    for (u32 offset = 0; offset < PAGE_SIZE; offset += 16)
        for (u32 write = 0; write < 2; write++) one_offset(m, 0, ACCESSES, offset, 4, write);
    m_free(m);
}

// ---- kinds of access ----

static void kinds_of_access(void **state)
{
    struct vmx_machine *m = fresh(SHADOW, ACCESSES | REGISTERS | DELIVERY);
    set_vapic(m, 0x80, 0x55);
    // more than 32 bits
    EXITS(m, "\x48\x8B\x04\x25\x80\x00\x0B\x00", EXIT_REASON_APIC_ACCESS, 0x080);  // mov rax, [80h]
    EXITS(m, "\x48\x89\x04\x25\x80\x00\x0B\x00", EXIT_REASON_APIC_ACCESS, 0x1080); // mov [80h], rax
    m_write(m, VMCS_GUEST_CR4, m_read(m, VMCS_GUEST_CR4) | CR4_OSFXSR);
    EXITS(m, "\x0F\x10\x04\x25\x80\x00\x0B\x00", EXIT_REASON_APIC_ACCESS, 0x080);  // movups
    EXITS(m, "\x0F\x29\x04\x25\xF0\x00\x0B\x00", EXIT_REASON_APIC_ACCESS, 0x10F0); // movaps
    EXITS(m, "\xFF\x34\x25\x80\x00\x0B\x00", EXIT_REASON_APIC_ACCESS, 0x080);      // push [80h]
    EXITS(m, "\xBC\x88\x00\x0B\x00\x50", EXIT_REASON_APIC_ACCESS, 0x1080);         // mov esp; push rax
    assert_int_equal(m_read(m, VMCS_GUEST_RSP), M_APIC + 0x88);
    m_write(m, VMCS_GUEST_RSP, M_STACK - 0x800);
    // in two pages: one after and one before the page
    EXITS(m, "\x8B\x04\x25\xFE\x0F\x0B\x00", EXIT_REASON_APIC_ACCESS, 0xFFE);
    EXITS(m, "\x89\x04\x25\xFE\xFF\x0A\x00", EXIT_REASON_APIC_ACCESS, 0x1000);
    // instruction fetch: of the whole instruction, and of its second half
    EXITS(m, "\xB8\x80\x00\x0B\x00\xFF\xE0", EXIT_REASON_APIC_ACCESS, 0x2080);
    assert_int_equal(m_read(m, VMCS_GUEST_RIP), M_APIC + 0x80);
    m_poke(m, M_APIC - 1, "\x0F", 1); // of 0F 0B
    EXITS(m, "\xB8\xFF\xFF\x0A\x00\xFF\xE0", EXIT_REASON_APIC_ACCESS, 0x2000);
    // read-modify-write: AND [80h], OR of what cannot be read, XCHG, of what cannot be written
    EXITS(m, "\x83\x24\x25\x80\x00\x0B\x00\x0F", EXIT_REASON_HLT, 0);
    assert_int_equal(vapic(m, 0x80), 0x05);
    EXITS(m, "\x83\x0C\x25\x90\x00\x0B\x00\x0F", EXIT_REASON_APIC_ACCESS, 0x090);
    EXITS(m, "\x83\x0C\x25\x00\x01\x0B\x00\x0F", EXIT_REASON_APIC_ACCESS, 0x1100);
    m->v->s.gpr[RAX] = 0x77;
    EXITS(m, "\x87\x04\x25\x20\x00\x0B\x00", EXIT_REASON_APIC_WRITE, 0x020);
    assert_int_equal(vapic(m, 0x20), 0x77);
    EXITS(m, "\xF0\x0F\xC7\x0C\x25\x80\x00\x0B\x00", EXIT_REASON_APIC_ACCESS, 0x080); // cmpxchg8b
    // CLFLUSH looks as a read of a byte does, PREFETCH at nothing
    EXITS(m, "\x0F\xAE\x3C\x25\x90\x00\x0B\x00", EXIT_REASON_APIC_ACCESS, 0x090);
    EXITS(m, "\x0F\xAE\x3C\x25\x80\x00\x0B\x00", EXIT_REASON_HLT, 0);
    EXITS(m, "\x0F\x18\x0C\x25\x90\x00\x0B\x00", EXIT_REASON_HLT, 0);
    // MONITOR arms the line of the virtual-APIC page
    EXITS(m, "\xB8\x90\x00\x0B\x00\x31\xC9\x31\xD2\x0F\x01\xC8", EXIT_REASON_APIC_ACCESS, 0x090);
    m_free(m);
}

// An iteration of a string instruction is an operation: the write takes effect before the next one.
static void strings(void **state)
{
    struct vmx_machine *m = fresh(SHADOW, ACCESSES | REGISTERS);
    // mov edi, APIC+3E0h; mov ecx, 3; mov eax, 9; rep stosd
    static const char code[] = "\xBF\xE0\x03\x0B\x00\xB9\x03\x00\x00\x00\xB8\x09\x00\x00\x00\xF3\xAB";
    EXITS(m, code, EXIT_REASON_APIC_WRITE, 0x3E0);
    assert_int_equal(m_read(m, VMCS_GUEST_RIP), M_GUEST + 15);
    assert_int_equal(m->v->s.gpr[RCX], 2);
    assert_int_equal(m->v->s.gpr[RDI], M_APIC + 0x3E4);
    assert_int_equal(m_read(m, VMCS_GUEST_RFLAGS) & FL_RF, FL_RF);
    assert_int_equal(vapic(m, 0x3E0), 9);
    m_root_state(m); // and on: the next one is no register
    assert_int_equal(m_enter(m, code, sizeof code - 1), EXIT_REASON_APIC_ACCESS);
    assert_int_equal(qualification(m), 0x13E4);
    assert_int_equal(m->v->s.gpr[RCX], 2);
    // mov esi, APIC; edi, data; ecx; rep movsd: the first read exits
    EXITS(m, "\xBE\x20\x00\x0B\x00\xBF\x00\x00\x05\x00\xB9\x03\x00\x00\x00\xF3\xA5", EXIT_REASON_APIC_ACCESS,
          0x024);
    assert_int_equal(m->v->s.gpr[RCX], 2);
    assert_int_equal(phys_read32(&m->phys, 0, 0x50000), vapic(m, 0x20));
    // MOVS with both operands there: read at 280h, write at 280h
    set_vapic(m, 0x280, 0x1234);
    EXITS(m, "\xBE\x80\x02\x0B\x00\xBF\x80\x02\x0B\x00\xA5", EXIT_REASON_APIC_WRITE, 0x280);
    // SCAS that goes beyond a register
    EXITS(m, "\xBF\x20\x00\x0B\x00\xB9\x03\x00\x00\x00\xB8\x01\x00\x00\x00\xF2\xAF", EXIT_REASON_APIC_ACCESS,
          0x024);
    m_free(m);
}

// Only what is delivered: the stack is in the page. And what a fault after a virtualized write does.
static void event_delivery(void **state)
{
    struct vmx_machine *m = fresh(SHADOW, ACCESSES | REGISTERS);
    // mov esp, APIC+400h; int 33h
    EXITS(m, "\xBC\x00\x04\x0B\x00\xCD\x33", EXIT_REASON_APIC_ACCESS, 0x33F8);
    assert_int_equal(m_read(m, VMCS_ORIGINAL_EVENT_IDENTIFICATION), 0x80000433);
    assert_int_equal(m_read(m, VMCS_VM_EXIT_INSTRUCTION_LENGTH), 2);
    assert_int_equal(m_read(m, VMCS_GUEST_RIP), M_GUEST + 5);
    assert_int_equal(m_read(m, VMCS_GUEST_RFLAGS) & FL_RF, 0);
    EXITS(m, "\xBC\x00\x04\x0B\x00\x0F\x0B", EXIT_REASON_APIC_ACCESS, 0x33F8); // ud2
    assert_int_equal(m_read(m, VMCS_ORIGINAL_EVENT_IDENTIFICATION), 0x80000306);
    assert_int_equal(m_read(m, VMCS_GUEST_RFLAGS) & FL_RF, FL_RF);
    // injected
    m_write(m, VMCS_GUEST_RSP, M_APIC + 0x200);
    m_write(m, VMCS_INJECTED_EVENT_IDENTIFICATION, 0x80000B0D);
    EXITS(m, "\x90", EXIT_REASON_APIC_ACCESS, 0x31F8);
    assert_int_equal(m_read(m, VMCS_ORIGINAL_EVENT_IDENTIFICATION), 0x80000B0D);
    m_free(m);
}

// ---- priority, and what it leaves behind (SDM 32.4.1, 32.4.6.1) ----

// Behind EPT: identity, but the APIC-access page and the page tables by 4 KiB.
static struct vmx_machine *behind_ept(u32 bits2)
{
    struct vmx_machine *m = fresh(SHADOW, ACCESSES | PROC2_ENABLE_EPT | bits2);
    m_poke64(m, M_EPT, (M_EPT + 0x1000) | 7);
    m_poke64(m, M_EPT + 0x1000, (M_EPT + 0x2000) | 7);
    m_poke64(m, M_EPT + 0x2000, (M_EPT + 0x3000) | 7);
    for (u64 i = 0; i < 512; i++) m_poke64(m, M_EPT + 0x3000 + 8 * i, i << 12 | 0x37);
    for (u64 i = 1; i < 512; i++) m_poke64(m, M_EPT + 0x2000 + 8 * i, i << 21 | 0xB7);
    m_write(m, VMCS_EPTP, M_EPT | 0x5E); // accessed and dirty flags
    return m;
}
static void invept(struct vmx_machine *m)
{
    m_root_state(m);
    m->v->s.gpr[RCX] = 2;
    m_operand(m, 0, 0);
    assert_int_equal(M_RUN(m, I_INVEPT), -1);
}

static void priority(void **state)
{
    struct vmx_machine *m = behind_ept(0);
    u64 leaf = M_EPT + 0x3000 + 8 * (M_APIC >> 12);
    EXITS(m, "\x8B\x04\x25\x90\x00\x0B\x00", EXIT_REASON_APIC_ACCESS, 0x090);
    assert_int_equal(phys_read64(&m->phys, 0, leaf) & 0x300, 0x100); // accessed
    EXITS(m, "\x89\x04\x25\x90\x00\x0B\x00", EXIT_REASON_APIC_ACCESS, 0x1090);
    assert_int_equal(phys_read64(&m->phys, 0, leaf) & 0x300, 0x300); // dirty
    m_poke64(m, leaf, M_APIC | 0x35);                                // not writable
    invept(m);
    assert_int_equal(AGAIN(m, "\x89\x04\x25\x90\x00\x0B\x00"), EXIT_REASON_EPT_VIOLATION);
    EXITS(m, "\x8B\x04\x25\x90\x00\x0B\x00", EXIT_REASON_APIC_ACCESS, 0x090);
    assert_int_equal(AGAIN(m, "\x89\x04\x25\x80\x00\x0B\x00"),
                     EXIT_REASON_EPT_VIOLATION); // virtualized or not
    // by guest-physical address: another page leads there
    m_poke64(m, leaf, M_APIC | 0x37);
    m_poke64(m, M_EPT + 0x3000 + 8 * 0xE0, M_APIC | 0x37);
    invept(m);
    EXITS(m, "\x8B\x04\x25\x90\x00\x0E\x00", EXIT_REASON_APIC_ACCESS, 0x090);
    // the second page of a straddling access faults first
    m_poke64(m, M_EPT + 0x3000 + 8 * ((M_APIC >> 12) + 1), 0);
    invept(m);
    assert_int_equal(AGAIN(m, "\x8B\x04\x25\xFE\x0F\x0B\x00"), EXIT_REASON_EPT_VIOLATION);
    assert_int_equal(m_read(m, VMCS_GUEST_PHYSICAL_ADDRESS), M_APIC + 0x1000);
    m_free(m);
}

static void guest_physical(void **state)
{
    // The page directory of the second GiB is in the APIC-access page.
    struct vmx_machine *m = behind_ept(REGISTERS);
    m_poke64(m, M_PDPT + 8, M_APIC | 7);
    EXITS(m, "\x8B\x04\x25\x00\x00\x00\x40", EXIT_REASON_APIC_ACCESS, 0xF000);
    assert_int_equal(m_read(m, VMCS_GUEST_RIP), M_GUEST);
    // for a fetch, and for the push of an event
    EXITS(m, "\xB8\x00\x00\x00\x40\xFF\xE0", EXIT_REASON_APIC_ACCESS, 0xF000);
    EXITS(m, "\xBC\x00\x00\x10\x40\x0F\x0B", EXIT_REASON_APIC_ACCESS, 0xA000);
    assert_int_equal(m_read(m, VMCS_ORIGINAL_EVENT_IDENTIFICATION), 0x80000306);
    // an EPT violation of the same access comes first
    m_poke64(m, M_EPT + 0x3000 + 8 * (M_APIC >> 12), 0);
    invept(m);
    m_write(m, VMCS_GUEST_RSP, M_STACK - 0x800);
    assert_int_equal(AGAIN(m, "\x8B\x04\x25\x00\x00\x00\x40"), EXIT_REASON_EPT_VIOLATION);
    m_free(m);
}

// The control comes and goes with the same VPID: no table may remember how it was.
static void comes_and_goes(void **state)
{
    static const char code[] = "\x8B\x04\x25\x90\x00\x0B\x00\x89\x04\x25\x90\x00\x0B\x00\xE8\x7A\x00\x09\x00";
    for (unsigned loop = 0; loop < 2; loop++) {
        struct vmx_machine *m = fresh(SHADOW, PROC2_ENABLE_VPID);
        m->v->loop_engine = loop;
        m_write(m, VMCS_VPID, 3);
        m_poke(m, M_APIC + 0x8D, "\xF4", 1); // that code's CALL leads there
        for (unsigned n = 0; n < 3; n++) {
            proc(m, SHADOW, PROC2_ENABLE_VPID);
            for (unsigned k = 0; k < 3; k++) {
                EXITS(m, code, EXIT_REASON_HLT, 0);
                assert_int_equal(m_read(m, VMCS_GUEST_RIP), M_APIC + 0x8D);
            }
            proc(m, SHADOW, PROC2_ENABLE_VPID | ACCESSES);
            EXITS(m, code, EXIT_REASON_APIC_ACCESS, 0x090);
            EXITS(m, "\x89\x04\x25\x90\x00\x0B\x00", EXIT_REASON_APIC_ACCESS, 0x1090);
            EXITS(m, "\xE9\x88\x00\x09\x00", EXIT_REASON_APIC_ACCESS, 0x208D);
        }
        m_free(m);
    }
}

// ---- TPR ----

static void tpr(void **state)
{
    struct vmx_machine *m = fresh(SHADOW, ACCESSES);
    m_write(m, VMCS_TPR_THRESHOLD, 4);
    set_vapic(m, 0x80, 0x4F);
    // written below, at, and above the threshold
    EXITS(m, "\xC7\x04\x25\x80\x00\x0B\x00\x3F\xFF\xFF\xFF", EXIT_REASON_TPR_BELOW_THRESHOLD, 0);
    assert_int_equal(vapic(m, 0x80), 0x3F);
    assert_int_equal(m_read(m, VMCS_GUEST_RIP), M_GUEST + 11);
    // SDM 29.7.7: right after the entry, whatever RFLAGS.IF and the blocking
    EXITS(m, "\x90", EXIT_REASON_TPR_BELOW_THRESHOLD, 0);
    assert_int_equal(m_read(m, VMCS_GUEST_RIP), M_GUEST);
    m_write(m, VMCS_GUEST_INTERRUPTIBILITY_STATE, BLOCKING_BY_MOV_SS);
    EXITS(m, "\x90", EXIT_REASON_TPR_BELOW_THRESHOLD, 0);
    assert_int_equal(m_read(m, VMCS_GUEST_INTERRUPTIBILITY_STATE), BLOCKING_BY_MOV_SS);
    m_write(m, VMCS_GUEST_INTERRUPTIBILITY_STATE, 0);
    m_write(m, VMCS_GUEST_ACTIVITY_STATE, ACTIVITY_HLT);
    EXITS(m, "\x90", EXIT_REASON_TPR_BELOW_THRESHOLD, 0);
    assert_int_equal(m_read(m, VMCS_GUEST_ACTIVITY_STATE), ACTIVITY_HLT);
    // not in the shutdown state
    m_write(m, VMCS_GUEST_ACTIVITY_STATE, ACTIVITY_SHUTDOWN);
    pin(m, PIN_ACTIVATE_VMX_PREEMPTION_TIMER);
    m_write(m, VMCS_VMX_PREEMPTION_TIMER_VALUE, 0);
    EXITS(m, "\x90", EXIT_REASON_PREEMPTION_TIMER, 0);
    // but when an NMI that is delivered has ended it
    pin(m, 0);
    m_root_state(m);
    m_write(m, VMCS_GUEST_RIP, M_GUEST);
    m_poke(m, M_CODE, I_VMRESUME, 3);
    m->v->s.rip = M_CODE;
    assert_int_equal(vcpu_run(m->v, 1000), RUN_HALTED);
    assert_true(m->v->s.vmx.guest && m->v->s.activity == ACTIVITY_SHUTDOWN);
    cpu_signal(m->v, CPU_SIGNAL_NMI, 0);
    assert_int_equal(vcpu_run(m->v, 1000), RUN_HALTED);
    assert_int_equal(m_read(m, VMCS_EXIT_REASON), EXIT_REASON_TPR_BELOW_THRESHOLD);
    assert_int_equal(m_read(m, VMCS_GUEST_ACTIVITY_STATE), ACTIVITY_ACTIVE);
    assert_int_equal(m_read(m, VMCS_GUEST_RIP), M_STUBS + 16 * VEC_NMI);
    m_write(m, VMCS_GUEST_RSP, M_STACK - 0x800);
    m_write(m, VMCS_GUEST_INTERRUPTIBILITY_STATE, 0);
    m_write(m, VMCS_GUEST_ACTIVITY_STATE, 0);
    set_vapic(m, 0x80, 0x40);
    EXITS(m, "\xC6\x04\x25\x80\x00\x0B\x00\x50", EXIT_REASON_HLT, 0); // a byte
    // a virtualized write of an instruction that exits otherwise is forgotten: XCHG is followed by nothing
    EXITS(m, "\x44\x0F\x20\xC0", EXIT_REASON_HLT, 0); // mov rax, cr8
    assert_int_equal(m->v->s.gpr[RAX], 5);
    m_free(m);
}

// ---- MSRs ----

static int msr(struct vmx_machine *m, bool write, u32 n, u64 value) // the exit's reason; RAX, RDX
{
    m_root_state(m);
    m_write(m, VMCS_GUEST_RIP, M_GUEST);
    m->v->s.gpr[RCX] = n, m->v->s.gpr[RAX] = (u32)value, m->v->s.gpr[RDX] = value >> 32;
    return (int)m_enter(m, write ? "\x0F\x30" : "\x0F\x32", 2);
}
static u64 msr_value(struct vmx_machine *m) { return m->v->s.gpr[RDX] << 32 | m->v->s.gpr[RAX]; }

static void x2apic(void **state)
{
    enum { GP = EXIT_REASON_EXCEPTION_NMI };
    struct vmx_machine *m = fresh(SHADOW | PROC_USE_MSR_BITMAPS, X2APIC);
    m_write(m, VMCS_ADDRESS_OF_MSR_BITMAPS, M_BITMAP);
    m_write(m, VMCS_EXCEPTION_BITMAP, 1 << VEC_GP);
    m_poke64(m, M_VAPIC + 0x80, 0x1122334455667788);
    assert_int_equal(msr(m, false, 0x808, 0), EXIT_REASON_HLT); // all 8 bytes
    assert_int_equal(msr_value(m), 0x1122334455667788);
    assert_int_equal(msr(m, false, 0x802, 0), GP); // the local APIC's, which is in xAPIC mode
    assert_int_equal(msr(m, true, 0x808, 0x100), GP);
    assert_int_equal(msr(m, true, 0x808, 1ull << 32), GP);
    assert_int_equal(m_read(m, VMCS_GUEST_RIP), M_GUEST);
    assert_int_equal(phys_read64(&m->phys, 0, M_VAPIC + 0x80), 0x1122334455667788);
    assert_int_equal(msr(m, true, 0x80B, 0), GP);
    assert_int_equal(msr(m, true, 0x83F, 0x33), GP);
    m_write(m, VMCS_TPR_THRESHOLD, 2), set_vapic(m, 0x80, 0x20);
    assert_int_equal(msr(m, true, 0x808, 0x1F), EXIT_REASON_TPR_BELOW_THRESHOLD);
    assert_int_equal(m_read(m, VMCS_GUEST_RIP), M_GUEST + 2);
    assert_int_equal(phys_read64(&m->phys, 0, M_VAPIC + 0x80), 0x1F);
    m_write(m, VMCS_TPR_THRESHOLD, 0);

    proc(m, SHADOW | PROC_USE_MSR_BITMAPS, X2APIC | REGISTERS);
    for (u32 n = 0x800; n <= 0x8FF; n++) {
        m_poke64(m, M_VAPIC + ((n & 0xFF) << 4), 0xABCD000000000000 | n);
        assert_int_equal(msr(m, false, n, 0), EXIT_REASON_HLT);
        assert_int_equal(msr_value(m), 0xABCD000000000000 | n);
        if (n != 0x808) assert_int_equal(msr(m, true, n, 0), GP);
    }
    assert_int_equal(msr(m, false, 0x900, 0), GP);
    // the bitmap is asked first
    m_poke(m, M_BITMAP + 0x808 / 8, "\x01", 1);
    assert_int_equal(msr(m, false, 0x808, 0), EXIT_REASON_RDMSR);
    m_poke(m, M_BITMAP + 0x800 + 0x808 / 8, "\x01", 1);
    assert_int_equal(msr(m, true, 0x808, 0xFFFFFFFF), EXIT_REASON_WRMSR);
    m_poke(m, M_BITMAP + 0x808 / 8, "\x00", 1), m_poke(m, M_BITMAP + 0x800 + 0x808 / 8, "\x00", 1);

    proc(m, SHADOW | PROC_USE_MSR_BITMAPS, X2APIC | DELIVERY);
    m_poke64(m, M_VAPIC + 0x80, 0), m_poke64(m, M_VAPIC + 0xB0, UINT64_MAX);
    for (u32 at = 0x100; at < 0x280; at += 16) set_vapic(m, at, 0);
    m_write(m, VMCS_GUEST_INTERRUPT_STATUS, 0);
    assert_int_equal(msr(m, true, 0x80B, 1), GP);
    assert_int_equal(msr(m, true, 0x80B, 1ull << 63), GP);
    assert_int_equal(msr(m, true, 0x80B, 0), EXIT_REASON_HLT);
    assert_int_equal(phys_read64(&m->phys, 0, M_VAPIC + 0xB0), 0);
    assert_int_equal(msr(m, true, 0x83F, 0x100), GP);
    assert_int_equal(msr(m, true, 0x83F, 0x0F), EXIT_REASON_APIC_WRITE);
    assert_int_equal(qualification(m), 0x3F0);
    assert_int_equal(m_read(m, VMCS_GUEST_RIP), M_GUEST + 2);
    assert_int_equal(phys_read64(&m->phys, 0, M_VAPIC + 0x3F0), 0x0F);
    assert_int_equal(msr(m, true, 0x83F, 0x34), EXIT_REASON_HLT);
    assert_int_equal(m_read(m, VMCS_GUEST_INTERRUPT_STATUS), 0x0034); // IF is 0: it waits
    assert_int_equal(vapic(m, 0x210), 1 << 20);
    m_free(m);
}

// ---- virtual interrupts ----

// The guest's handler of each vector is the stub, a HLT: the exit's RIP says which.
static int taken(struct vmx_machine *m)
{
    u64 rip = m_read(m, VMCS_GUEST_RIP);
    return rip >= M_STUBS && rip < M_STUBS + 16 * 256 ? (int)((rip - M_STUBS) / 16) : -1;
}
static void request(struct vmx_machine *m, u8 vector)
{
    set_vapic(m, 0x200 + vector / 32 * 16, vapic(m, 0x200 + vector / 32 * 16) | 1u << (vector & 31));
}
static struct vmx_machine *with_delivery(u32 bits, u32 bits2)
{
    struct vmx_machine *m = fresh(SHADOW | bits, DELIVERY | bits2);
    m_write(m, VMCS_GUEST_RFLAGS, 2 | FL_IF);
    return m;
}

static void delivery(void **state)
{
    struct vmx_machine *m = with_delivery(0, 0);
    request(m, 0x51), request(m, 0x33);
    m_write(m, VMCS_GUEST_INTERRUPT_STATUS, 0x51);
    assert_int_equal(AGAIN(m, "\x90"), EXIT_REASON_HLT);
    assert_int_equal(taken(m), 0x51);
    assert_int_equal(m_read(m, VMCS_GUEST_INTERRUPT_STATUS), 0x5133); // SVI, and the next RVI
    assert_int_equal(vapic(m, 0x120), 1 << 17);                       // VISR
    assert_int_equal(vapic(m, 0x220), 0);                             // VIRR
    assert_int_equal(vapic(m, 0x210), 1 << 19);
    assert_int_equal(vapic(m, 0xA0), 0x50); // VPPR
    assert_int_equal(m_read(m, VMCS_EXITING_EVENT_IDENTIFICATION), 0);
    assert_int_equal(m_read(m, VMCS_ORIGINAL_EVENT_IDENTIFICATION), 0);
    // In service: 33h has to wait, also at the next entry, where VPPR is made anew.
    set_vapic(m, 0xA0, 0xFFFFFF00);
    m_write(m, VMCS_GUEST_RFLAGS, 2 | FL_IF);
    assert_int_equal(AGAIN(m, "\x90"), EXIT_REASON_HLT);
    assert_int_equal(taken(m), -1);
    assert_int_equal(vapic(m, 0xA0), 0x50);
    // EOI lets it through.
    proc(m, SHADOW, DELIVERY | ACCESSES);
    assert_int_equal(AGAIN(m, "\xC7\x04\x25\xB0\x00\x0B\x00\x05\x00\x00\x00\x90"), EXIT_REASON_HLT);
    assert_int_equal(taken(m), 0x33);
    assert_int_equal(m_read(m, VMCS_GUEST_INTERRUPT_STATUS), 0x3300);
    assert_int_equal(vapic(m, 0x120), 0);
    assert_int_equal(vapic(m, 0xB0), 0);
    // EOI with the vector's bit in the bitmap: an exit after the instruction, and nothing is evaluated.
    request(m, 0x20);
    m_write(m, VMCS_GUEST_INTERRUPT_STATUS, 0x3320);
    m_write(m, VMCS_EOI_EXIT0, 1ull << 0x33);
    EXITS(m, "\xC7\x04\x25\xB0\x00\x0B\x00\x05\x00\x00\x00\x90", EXIT_REASON_VIRTUALIZED_EOI, 0x33);
    assert_int_equal(m_read(m, VMCS_GUEST_RIP), M_GUEST + 11);
    assert_int_equal(m_read(m, VMCS_GUEST_INTERRUPT_STATUS), 0x0020);
    assert_int_equal(vapic(m, 0xA0), 0);
    m_write(m, VMCS_EOI_EXIT0, 0);
    m_free(m);
}

// Of the vectors 0-255, which word of the bitmap and of VISR.
static void end_of_interrupt(void **state)
{
    struct vmx_machine *m = with_delivery(PROC_USE_MSR_BITMAPS, X2APIC);
    m_write(m, VMCS_ADDRESS_OF_MSR_BITMAPS, M_BITMAP);
    m_write(m, VMCS_GUEST_RFLAGS, 2);
    for (u32 vector = 1; vector < 256; vector++) {
        static const enum vmcs_field bitmap[] = {VMCS_EOI_EXIT0, VMCS_EOI_EXIT1, VMCS_EOI_EXIT2,
                                                 VMCS_EOI_EXIT3};
        u32 below = vector / 2;
        for (u32 at = 0x100; at < 0x180; at += 16) set_vapic(m, at, 0);
        set_vapic(m, 0x100 + vector / 32 * 16, 1u << (vector & 31));
        set_vapic(m, 0x100 + below / 32 * 16, vapic(m, 0x100 + below / 32 * 16) | 1u << (below & 31));
        for (u32 i = 0; i < 4; i++) m_write(m, bitmap[i], i == vector / 64 ? 1ull << (vector % 64) : 0);
        m_write(m, VMCS_GUEST_INTERRUPT_STATUS, vector << 8);
        assert_int_equal(msr(m, true, 0x80B, 0), EXIT_REASON_VIRTUALIZED_EOI);
        assert_int_equal(qualification(m), vector);
        assert_int_equal(m_read(m, VMCS_GUEST_INTERRUPT_STATUS), below << 8);
        m_write(m, bitmap[vector / 64], ~(1ull << (vector % 64))); // all others
        m_write(m, VMCS_GUEST_INTERRUPT_STATUS, vector << 8);
        assert_int_equal(msr(m, true, 0x80B, 0), EXIT_REASON_HLT);
    }
    m_free(m);
}

static void blocking(void **state)
{
    struct vmx_machine *m = with_delivery(0, 0);
    request(m, 0x51);
    m_write(m, VMCS_GUEST_INTERRUPT_STATUS, 0x51);
    // VTPR of its class holds it back; one below does not
    set_vapic(m, 0x80, 0x50);
    assert_int_equal(AGAIN(m, "\x90"), EXIT_REASON_HLT);
    assert_int_equal(taken(m), -1);
    assert_int_equal(vapic(m, 0xA0), 0x50);
    m->v->s.gpr[RCX] = 4;
    assert_int_equal(AGAIN(m, "\x44\x0F\x22\xC1\x90"), EXIT_REASON_HLT); // mov cr8, rcx
    assert_int_equal(taken(m), 0x51);
    assert_int_equal(phys_read64(&m->phys, 0, m_read(m, VMCS_GUEST_RSP)), M_GUEST + 4);
    set_vapic(m, 0x80, 0), set_vapic(m, 0x120, 0);
    // IF; STI's shadow covers one instruction
    request(m, 0x51);
    m_write(m, VMCS_GUEST_INTERRUPT_STATUS, 0x51);
    m_write(m, VMCS_GUEST_RFLAGS, 2);
    m_write(m, VMCS_GUEST_RSP, M_STACK - 0x800);
    assert_int_equal(AGAIN(m, "\x90\xFB\x90\x90"), EXIT_REASON_HLT);
    assert_int_equal(taken(m), 0x51);
    assert_int_equal(phys_read64(&m->phys, 0, m_read(m, VMCS_GUEST_RSP)), M_GUEST + 3);
    // MOV SS at the entry
    request(m, 0x51);
    m_write(m, VMCS_GUEST_INTERRUPT_STATUS, 0x51);
    m_write(m, VMCS_GUEST_RFLAGS, 2 | FL_IF);
    m_write(m, VMCS_GUEST_INTERRUPTIBILITY_STATE, BLOCKING_BY_MOV_SS);
    m_write(m, VMCS_GUEST_RSP, M_STACK - 0x800);
    assert_int_equal(AGAIN(m, "\x90\x90"), EXIT_REASON_HLT);
    assert_int_equal(taken(m), 0x51);
    assert_int_equal(phys_read64(&m->phys, 0, m_read(m, VMCS_GUEST_RSP)), M_GUEST + 1);
    // interrupt-window exiting: the window opens, and the interrupt is not even recognized
    request(m, 0x51);
    m_write(m, VMCS_GUEST_INTERRUPT_STATUS, 0x51);
    proc(m, SHADOW | PROC_INTERRUPT_WINDOW_EXITING, DELIVERY);
    m_write(m, VMCS_GUEST_RFLAGS, 2 | FL_IF);
    assert_int_equal(AGAIN(m, "\x90"), EXIT_REASON_INTERRUPT_WINDOW);
    assert_int_equal(m_read(m, VMCS_GUEST_INTERRUPT_STATUS), 0x51);
    // software that writes VIRR or the TPR by itself is not looked at
    proc(m, SHADOW, DELIVERY);
    for (u32 at = 0x100; at < 0x280; at += 16) set_vapic(m, at, 0);
    m_write(m, VMCS_GUEST_INTERRUPT_STATUS, 0);
    m_write(m, VMCS_GUEST_RFLAGS, 2 | FL_IF);
    assert_int_equal(AGAIN(m, "\x80\x0C\x25\x22\x02\x09\x00\x02\x90"),
                     EXIT_REASON_HLT); // or byte [VIRR+22h], 2
    assert_int_equal(taken(m), -1);
    m_free(m);
}

// HLT wakes; an NMI and INIT go before, an external interrupt after; shutdown does not wake.
static void order_and_wake(void **state)
{
    struct vmx_machine *m = with_delivery(0, 0);
    m_write(m, VMCS_GUEST_ACTIVITY_STATE, ACTIVITY_HLT);
    request(m, 0x51);
    m_write(m, VMCS_GUEST_INTERRUPT_STATUS, 0x51);
    assert_int_equal(AGAIN(m, "\x90"), EXIT_REASON_HLT);
    assert_int_equal(taken(m), 0x51);
    assert_int_equal(m_read(m, VMCS_GUEST_ACTIVITY_STATE), ACTIVITY_ACTIVE);
    // a virtual interrupt goes before the external one, which exits behind it
    request(m, 0x61);
    m_write(m, VMCS_GUEST_INTERRUPT_STATUS, 0x61);
    m_write(m, VMCS_GUEST_RFLAGS, 2 | FL_IF);
    m->v->s.intr_line = true;
    m->interrupt = 0x20;
    m_root_state(m);
    m_write(m, VMCS_GUEST_RIP, M_GUEST);
    assert_int_equal(m_enter(m, "\x90", 1), EXIT_REASON_EXTERNAL_INTERRUPT);
    assert_int_equal(taken(m), 0x61);
    m->v->s.intr_line = false;
    // an NMI goes before it, and the virtual interrupt into its handler
    request(m, 0x71);
    m_write(m, VMCS_GUEST_INTERRUPT_STATUS, 0x71);
    m_write(m, VMCS_GUEST_RFLAGS, 2 | FL_IF);
    pin(m, PIN_EXTERNAL_INTERRUPT_EXITING | PIN_NMI_EXITING);
    m_root_state(m);
    m->v->s.nmi_pending = true, m->v->s.blocking = BLOCKING_BY_NMI;
    m_write(m, VMCS_GUEST_RIP, M_GUEST);
    assert_int_equal(m_enter(m, "\x90", 1), EXIT_REASON_EXCEPTION_NMI);
    assert_int_equal(m_read(m, VMCS_GUEST_RIP), M_GUEST);
    assert_int_equal(m_read(m, VMCS_GUEST_INTERRUPT_STATUS), 0x0071);
    m->v->s.blocking = 0;
    // an injected event first, then the virtual interrupt, before the handler's first instruction
    pin(m, PIN_EXTERNAL_INTERRUPT_EXITING);
    m_write(m, VMCS_GUEST_INTERRUPT_STATUS, 0x71);
    m_write(m, VMCS_INJECTED_EVENT_IDENTIFICATION, 0x80000403),
        m_write(m, VMCS_VM_ENTRY_INSTRUCTION_LENGTH, 1);
    m_poke64(m, M_IDT + 16 * 3, (u64)(M_STUBS + 48) | 8 << 16 | 0x8F00ull << 32 | 0); // a trap gate
    m_poke(m, M_IDT + 16 * 3, &(u16){(M_STUBS + 48) & 0xFFFF}, 2),
        m_poke(m, M_IDT + 16 * 3 + 6, &(u16){M_STUBS >> 16}, 2);
    assert_int_equal(AGAIN(m, "\x90"), EXIT_REASON_HLT);
    assert_int_equal(taken(m), 0x71);
    assert_int_equal(phys_read64(&m->phys, 0, m_read(m, VMCS_GUEST_RSP)), M_STUBS + 48);
    // a fault on the way: the interrupt is the original event
    m_write(m, VMCS_EXCEPTION_BITMAP, 1 << VEC_PF);
    request(m, 0x81);
    m_write(m, VMCS_GUEST_INTERRUPT_STATUS, 0x81);
    m_write(m, VMCS_GUEST_RFLAGS, 2 | FL_IF);
    m_write(m, VMCS_GUEST_RSP, 0x5000000000);
    assert_int_equal(AGAIN(m, "\x90"), EXIT_REASON_EXCEPTION_NMI);
    assert_int_equal(m_read(m, VMCS_ORIGINAL_EVENT_IDENTIFICATION), 0x80000081);
    assert_int_equal(m_read(m, VMCS_GUEST_INTERRUPT_STATUS), 0x8100);
    m_free(m);
}

static void self_ipi(void **state)
{
    static const struct {
        u32 command;
        bool self;
    } commands[] = {{0x00040055, true},  {0x00044855, true},  {0x00040005, false}, {0x00000055, false},
                    {0x00080055, false}, {0x000C0055, false}, {0x00048055, false}, {0x00040155, false},
                    {0x00040455, false}, {0x00041055, false}, {0x00042055, false}, {0x00050055, false},
                    {0x00140055, false}, {0x80040055, false}, {0x00040010, true}};
    struct vmx_machine *m = with_delivery(0, ACCESSES);
    for (unsigned i = 0; i < ARRAY_LEN(commands); i++) {
        u32 command = commands[i].command;
        for (u32 at = 0x100; at < 0x280; at += 16) set_vapic(m, at, 0);
        m_write(m, VMCS_GUEST_INTERRUPT_STATUS, 0);
        m_write(m, VMCS_GUEST_RFLAGS, 2 | FL_IF), m_write(m, VMCS_GUEST_RSP, M_STACK - 0x800);
        m->v->s.gpr[RAX] = command;
        s64 reason = AGAIN(m, "\x89\x04\x25\x00\x03\x0B\x00\x90");
        assert_int_equal(vapic(m, 0x300), command);
        if (commands[i].self) {
            assert_int_equal(reason, EXIT_REASON_HLT);
            assert_int_equal(taken(m), command & 0xFF);
            assert_int_equal(phys_read64(&m->phys, 0, m_read(m, VMCS_GUEST_RSP)), M_GUEST + 7);
        } else {
            assert_int_equal(reason, EXIT_REASON_APIC_WRITE);
            assert_int_equal(qualification(m), 0x300);
            assert_int_equal(m_read(m, VMCS_GUEST_RIP), M_GUEST + 7);
        }
    }
    m_free(m);
}

// ---- posted interrupts ----

static unsigned eois;
static void count_eoi(void *o, unsigned cpu)
{
    eois++;
    ((struct vmx_machine *)o)->v->s.intr_line = false;
}

static void posted(void **state)
{
    struct vmx_machine *m = with_delivery(0, 0);
    struct cpu_board_ops board = m_board;
    board.eoi = count_eoi;
    m->v->board = &board;
    eois = 0;
    pin(m, PIN_EXTERNAL_INTERRUPT_EXITING | PIN_PROCESS_POSTED_INTERRUPTS);
    m_write(m, VMCS_PRIMARY_VM_EXIT_CONTROLS,
            m_read(m, VMCS_PRIMARY_VM_EXIT_CONTROLS) | EXIT_ACKNOWLEDGE_INTERRUPT_ON_EXIT);
    m_write(m, VMCS_POSTED_INTERRUPT_NOTIFICATION_VECTOR, 0xF2);
    m_write(m, VMCS_POSTED_INTERRUPT_DESCRIPTOR_ADDRESS, M_PID);
    m_poke64(m, M_PID + 8, 1ull << 0x11 | 1ull << 0x1F); // 51h, 5Fh
    m_poke64(m, M_PID + 24, 1ull << 63);                 // FFh
    m_poke64(m, M_PID + 32, 0x1234567800F203);
    m->v->s.intr_line = true;
    m->interrupt = 0xF2;
    m_write(m, VMCS_GUEST_ACTIVITY_STATE, ACTIVITY_HLT);
    assert_int_equal(AGAIN(m, "\x90"), EXIT_REASON_HLT);
    assert_int_equal(eois, 1);
    assert_int_equal(taken(m), 0xFF);
    assert_int_equal(m_read(m, VMCS_GUEST_INTERRUPT_STATUS), 0xFF5F);
    assert_int_equal(vapic(m, 0x220), 1u << 17 | 1u << 31);
    assert_int_equal(phys_read64(&m->phys, 0, M_PID + 8), 0);
    assert_int_equal(phys_read64(&m->phys, 0, M_PID + 24), 0);
    assert_int_equal(phys_read64(&m->phys, 0, M_PID + 32), 0x1234567800F202); // ON alone
    // without requests: RVI stays, a HLT goes on
    m_write(m, VMCS_GUEST_ACTIVITY_STATE, ACTIVITY_HLT);
    m_write(m, VMCS_GUEST_INTERRUPT_STATUS, 0xFF5F);
    m_write(m, VMCS_GUEST_RFLAGS, 2);
    m_root_state(m);
    m->v->s.intr_line = true;
    m_write(m, VMCS_GUEST_RIP, M_GUEST);
    m_poke(m, M_CODE, I_VMRESUME, 3);
    m->v->s.rip = M_CODE;
    assert_int_equal(vcpu_run(m->v, 1000), RUN_HALTED);
    assert_true(m->v->s.vmx.guest);
    assert_int_equal(m->v->s.activity, ACTIVITY_HLT);
    assert_int_equal(eois, 2);
    assert_int_equal(m->v->s.vmx.rvi, 0x5F);
    // any other vector: an exit, with the vector, and no EOI
    m->interrupt = 0x31;
    cpu_signal(m->v, CPU_SIGNAL_INTR_ON, 0);
    assert_int_equal(vcpu_run(m->v, 1000), RUN_HALTED);
    assert_int_equal(m_read(m, VMCS_EXIT_REASON), EXIT_REASON_EXTERNAL_INTERRUPT);
    assert_int_equal(m_read(m, VMCS_EXITING_EVENT_IDENTIFICATION), 0x80000031);
    assert_int_equal(eois, 2);
    m_free(m);
}

// ---- IPI virtualization ----

static struct {
    unsigned n;
    u32 destination;
    u8 vector;
} sent;
static void count_ipi(void *o, unsigned cpu, u32 destination, u8 vector)
{
    sent.n++;
    sent.destination = destination, sent.vector = vector;
}

static void ipis(void **state)
{
    enum { TABLE = M_PID + 0x100 };
    struct vmx_machine *m = fresh(SHADOW | PROC_ACTIVATE_TERTIARY_CONTROLS, ACCESSES);
    struct cpu_board_ops board = m_board;
    board.ipi = count_ipi;
    m->v->board = &board;
    sent.n = 0;
    m_write(m, VMCS_TERTIARY_PROC_BASED_CONTROLS, PROC3_IPI_VIRTUALIZATION);
    m_write(m, VMCS_PID_POINTER_TABLE_ADDRESS, TABLE), m_write(m, VMCS_LAST_PID_POINTER_INDEX, 5);
    m_poke64(m, TABLE + 8 * 5, M_PID | 1);
    m_poke64(m, M_PID + 32, 0x0000030000F20000); // NDST 300h, NV F2h, ON=SN=0
    static const char write[] = "\x89\x04\x25\x00\x03\x0B\x00\x90";
    // by memory: to the virtual APIC ID in VICR_HI
    set_vapic(m, 0x310, 5u << 24);
    m->v->s.gpr[RAX] = 0x4051; // bit 14 does not matter
    EXITS(m, write, EXIT_REASON_HLT, 0);
    assert_int_equal(phys_read64(&m->phys, 0, M_PID + 8), 1ull << 0x11);
    assert_int_equal(phys_read64(&m->phys, 0, M_PID + 32), 0x0000030000F20001);
    assert_true(sent.n == 1 && sent.destination == 0x300 && sent.vector == 0xF2);
    assert_int_equal(vapic(m, 0x300), 0x4051);
    // ON: another request, no notification; SN the same
    m->v->s.gpr[RAX] = 0xFF;
    EXITS(m, write, EXIT_REASON_HLT, 0);
    m_poke64(m, M_PID + 32, 0x0000030000F20002);
    m->v->s.gpr[RAX] = 0x10;
    EXITS(m, write, EXIT_REASON_HLT, 0);
    assert_int_equal(sent.n, 1);
    assert_int_equal(phys_read64(&m->phys, 0, M_PID + 32), 0x0000030000F20002);
    assert_int_equal(phys_read64(&m->phys, 0, M_PID), 1ull << 0x10);
    assert_int_equal(phys_read64(&m->phys, 0, M_PID + 24), 1ull << 63);
    // what is no such IPI, has an illegal vector, or no descriptor
    static const u32 others[] = {0x0F,  0x40051, 0x80051, 0xC0051, 0x8051,  0x851,
                                 0x151, 0x451,   0x1051,  0x2051,  0x10051, 0x100051};
    for (unsigned i = 0; i < ARRAY_LEN(others); i++) {
        m->v->s.gpr[RAX] = others[i];
        EXITS(m, write, EXIT_REASON_APIC_WRITE, 0x300);
        assert_int_equal(m_read(m, VMCS_GUEST_RIP), M_GUEST + 7);
    }
    m->v->s.gpr[RAX] = 0x51;
    static const u64 pointers[] = {M_PID, M_PID | 3, M_PID | 0x21, M_PID | 1 | 1ull << 52};
    for (unsigned i = 0; i < ARRAY_LEN(pointers); i++) {
        m_poke64(m, TABLE + 8 * 5, pointers[i]);
        EXITS(m, write, EXIT_REASON_APIC_WRITE, 0x300);
    }
    m_poke64(m, TABLE + 8 * 5, M_PID | 1), m_poke64(m, TABLE + 8 * 6, M_PID | 1);
    set_vapic(m, 0x310, 6u << 24); // beyond the last
    EXITS(m, write, EXIT_REASON_APIC_WRITE, 0x300);
    EXITS(m, "\x8B\x04\x25\x00\x03\x0B\x00", EXIT_REASON_APIC_ACCESS,
          0x300); // a read is not virtualized by it
    EXITS(m, "\x88\x04\x25\x01\x03\x0B\x00", EXIT_REASON_APIC_ACCESS, 0x1301); // nor another offset
    // by MSR: to EDX
    proc(m, SHADOW | PROC_ACTIVATE_TERTIARY_CONTROLS | PROC_USE_MSR_BITMAPS, X2APIC);
    m_write(m, VMCS_ADDRESS_OF_MSR_BITMAPS, M_BITMAP), m_write(m, VMCS_EXCEPTION_BITMAP, 1 << VEC_GP);
    m_poke64(m, M_PID + 32, 0x0000030000F20000);
    assert_int_equal(msr(m, true, 0x830, 5ull << 32 | 0x61), EXIT_REASON_HLT);
    assert_int_equal(sent.n, 2);
    assert_int_equal(phys_read64(&m->phys, 0, M_PID + 8), 1ull << 0x21 | 1ull << 0x11);
    assert_int_equal(phys_read64(&m->phys, 0, M_VAPIC + 0x300), 5ull << 32 | 0x61);
    assert_int_equal(msr(m, true, 0x830, 6ull << 32 | 0x61), EXIT_REASON_APIC_WRITE);
    assert_int_equal(qualification(m), 0x300);
    static const u32 exiting[] = {0x0F, 0x40061, 0x8061, 0x1061, 0x861, 0x461},
                     faults[] = {0x2061, 0x10061, 0x20061, 0x80000061};
    for (unsigned i = 0; i < ARRAY_LEN(exiting); i++)
        assert_int_equal(msr(m, true, 0x830, 5ull << 32 | exiting[i]), EXIT_REASON_APIC_WRITE);
    for (unsigned i = 0; i < ARRAY_LEN(faults); i++)
        assert_int_equal(msr(m, true, 0x830, 5ull << 32 | faults[i]), EXIT_REASON_EXCEPTION_NMI);
    assert_int_equal(sent.n, 2);
    m_free(m);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(every_offset),     cmocka_unit_test(kinds_of_access),
        cmocka_unit_test(strings),          cmocka_unit_test(event_delivery),
        cmocka_unit_test(priority),         cmocka_unit_test(guest_physical),
        cmocka_unit_test(comes_and_goes),   cmocka_unit_test(tpr),
        cmocka_unit_test(x2apic),           cmocka_unit_test(delivery),
        cmocka_unit_test(end_of_interrupt), cmocka_unit_test(blocking),
        cmocka_unit_test(order_and_wake),   cmocka_unit_test(self_ipi),
        cmocka_unit_test(posted),           cmocka_unit_test(ipis),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
