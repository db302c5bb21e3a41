/*
 * The demo hypervisor: it takes over a bare machine and runs two guests on it that know nothing of each
 * other.
 *
 * Read in this order: rom_main here (the story), guest.c (what a guest is made of), run_slice here (entering
 * it), exits.c (what it is not allowed to do alone), uart.c, and the guests themselves (guest-a.S,
 * guest-b.c).
 *
 * Every line it prints tells what has happened; the summary is counted, not known.
 *
 * Command line: slice=N and tick=N, in TSC ticks: the length of a guest's turn and the period of its timer;
 * field=N value=N: a mistake on purpose, to see it told: the VMCS field of that encoding gets the value
 * before guest A is entered for the first time.
 *
 * Missing: more than one processor, devices other than the serial port, guests that go wrong in creative ways
 * (an exit that exits.c does not know ends the run).
 */
#include "guest.h"

#define GUESTS         2
#define SHARED_ADDRESS 0x6000 /* both guests write here; each must read its own value back */

extern const uint8_t guest_a_image[], guest_a_image_end[], guest_b_image[], guest_b_image_end[];

static const struct guest_plan plans[GUESTS] = {
    {"guest A", "16-bit real mode", true, 512 << 10, guest_a_image, guest_a_image_end, 0x7c00, 0x08},
    {"guest B", "64-bit mode", false, 2 << 20, guest_b_image, guest_b_image_end, 0x10000, 0x20},
};

static uint64_t slice_length, tick_period;

/* Can this processor do what the demo shows? */
static bool machine_is_fit(void)
{
    const char *why;
    if (!vmx_available(&why)) {
        print("[hypervisor] sorry: %s\n", why);
        return false;
    }
    if (!vmx_has_secondary(PROC2_ENABLE_EPT | PROC2_UNRESTRICTED_GUEST)) {
        print("[hypervisor] sorry: no EPT with unrestricted guests here\n");
        return false;
    }
    if (!vmx_allowed(IA32_VMX_PINBASED_CTLS, PIN_ACTIVATE_VMX_PREEMPTION_TIMER) ||
        !vmx_allowed(IA32_VMX_EXIT_CTLS, EXIT_SAVE_VMX_PREEMPTION_TIMER_VALUE)) {
        print("[hypervisor] sorry: no VMX-preemption timer here\n");
        return false;
    }
    return true;
}

/* The guest's timer, before each entry: a tick that is due is injected if the guest can take it, and
   otherwise we ask for an exit as soon as it can. */
static void deliver_tick(struct guest *g)
{
    if (rdtsc() >= g->next_tick) {
        g->tick_pending = true;
        g->next_tick = rdtsc() + tick_period;
    }
    if (!g->tick_pending) return;
    bool busy = vmread(INJECTED_EVENT_IDENTIFICATION) & EVENT_VALID;
    bool blocked = vmread(GUEST_INTERRUPTIBILITY_STATE) & (INTERRUPTIBILITY_STI | INTERRUPTIBILITY_MOV_SS);
    if (busy || blocked || !(vmread(GUEST_RFLAGS) & RFLAGS_IF)) {
        vmx_set_proc(PROC_INTERRUPT_WINDOW_EXITING);
        return;
    }
    vmwrite(INJECTED_EVENT_IDENTIFICATION, EVENT_VALID | EVENT_EXTERNAL_INTERRUPT | g->plan->timer_vector);
    g->tick_pending = false;
    g->halted = false;
    g->ticks++;
}

/* A guest's turn: until the preemption timer fires, or it halts. */
static void run_slice(struct guest *g)
{
    if (vmptrld(g->vcpu.vmcs) != VMX_SUCCEED) panic("vmptrld");
    unsigned rate = rdmsr(IA32_VMX_MISC) & 31; /* the timer counts when this bit of the TSC changes */
    vmwrite(VMX_PREEMPTION_TIMER_VALUE, slice_length >> rate);
    g->slices++;
    for (;;) {
        deliver_tick(g);
        struct vmx_exit e = vmx_run(&g->vcpu);
        if (e.status != VMX_SUCCEED)
            panic("%s: VM entry refused (status %d, error %u)", g->plan->name, (int)e.status, e.error);
        if (guest_handle_exit(g, &e) == GUEST_YIELDS) return;
    }
}

static bool runnable(const struct guest *g)
{
    return !g->finished && (!g->halted || g->tick_pending || rdtsc() >= g->next_tick);
}

/* Turn by turn until all have finished. While all wait in HLT we wait with them. */
static void schedule(struct guest *guests)
{
    for (unsigned i = 0, finished = 0; finished < GUESTS; i = (i + 1) % GUESTS) {
        struct guest *g = &guests[i];
        if (!runnable(g)) {
            pause();
            continue;
        }
        run_slice(g);
        if (g->finished) finished++;
    }
}

static void summary(const struct guest *guests)
{
    print("[hypervisor] %-40s %10s %10s\n", "summary", plans[0].name, plans[1].name);
    print("[hypervisor] %-40s %10lu %10lu\n", "turns", guests[0].slices, guests[1].slices);
    print("[hypervisor] %-40s %10lu %10lu\n", "timer interrupts injected", guests[0].ticks, guests[1].ticks);
    for (unsigned r = 0; r < sizeof(guests[0].exits) / sizeof(guests[0].exits[0]); r++)
        if (guests[0].exits[r] || guests[1].exits[r])
            print("[hypervisor] VM exits: %-30s %10lu %10lu\n", vmx_exit_name(r), guests[0].exits[r],
                  guests[1].exits[r]);
    for (unsigned i = 0; i < GUESTS; i++) {
        const uint8_t *at = guests[i].memory + SHARED_ADDRESS;
        uint32_t value;
        memcpy(&value, at, sizeof(value));
        print("[hypervisor] %s's address %x is physical %lx and holds %08x\n", guests[i].plan->name,
              SHARED_ADDRESS, (uint64_t)at, value);
    }
}

static void make_the_mistake(const struct guest *g)
{
    uint64_t field = cmdline_number("field", ~0ul), value = cmdline_number("value", 0);
    if (field == ~0ul) return;
    if (vmptrld(g->vcpu.vmcs) != VMX_SUCCEED) panic("vmptrld");
    enum vmx_status status = vmwrite_status(field, value);
    print("[hypervisor] on purpose: VMWRITE of %lx to field %lx%s\n", value, field,
          status == VMX_SUCCEED ? "" : " (it fails)");
}

int rom_main(void)
{
    static struct guest guests[GUESTS];

    print("[hypervisor] Matryoshka demo hypervisor, in 64-bit mode on the bare machine\n");
    if (!machine_is_fit()) return 2;
    slice_length = cmdline_number("slice", 100000);
    tick_period = cmdline_number("tick", 250000);

    if (!vmx_on()) panic("VMXON failed");
    print("[hypervisor] VMXON: in VMX root operation; VMCS revision %x\n",
          (uint32_t)rdmsr(IA32_VMX_BASIC) & 0x7fffffff);
    for (unsigned i = 0; i < GUESTS; i++) {
        guest_create(&guests[i], &plans[i]);
        print("[hypervisor] %s: %s, %lu KiB of memory at physical %lx, entry at %lx\n", plans[i].name,
              plans[i].description, plans[i].memory_size >> 10, (uint64_t)guests[i].memory,
              plans[i].image_at);
    }
    print("[hypervisor] turns of %lu and timer ticks of %lu TSC cycles\n", slice_length, tick_period);

    make_the_mistake(&guests[0]);
    schedule(guests);

    vmx_off();
    print("[hypervisor] both guests are done; VMXOFF: the machine is ours again\n");
    summary(guests);
    return 0;
}
