// Two processors and one VMCS region: the region in memory is the truth, so what anybody writes there is what
// the processor goes by whose current VMCS it is, whoever else has it current or had. (Software should not do
// that to an active VMCS (SDM 27.11.1); what happens is still the same with and without derived state.)
#include "vmx_machine.h"

enum { M_WRITER = 0x98000 }; // its code; its stack is below
static struct vmx_machine *m;
static struct vcpu *writer;

static int setup(void **state)
{
    m = m_vmx_new();
    m_vmcs_64(m);
    writer = vcpu_new(1, &m->phys, &m->features);
    assert_non_null(writer);
    writer->s = m->v->s;
    writer->s.vmx.vmcs_pointer = VMX_NO_POINTER;
    writer->s.gpr[RSP] = M_WRITER;
    writer->board = &m_board, writer->board_opaque = m;
    if (*state) m->v->loop_engine = writer->loop_engine = true;
    cpu_drop_derived(writer);
    cpu_mode_changed(writer);
    return 0;
}

static int teardown(void **state)
{
    vcpu_free(writer);
    m_free(m);
    return 0;
}

static void write_as_program(const char *code, unsigned n) // of the second processor; it ends with HLT
{
    // once, so that it runs fast
    if (memcmp(m->phys.ram + M_WRITER, code, n) != 0) m_poke(m, M_WRITER, code, n);
    m_poke(m, M_WRITER + n, "\xF4", 1);
    writer->s.rip = M_WRITER;
    writer->s.activity = ACTIVITY_ACTIVE;
    cpu_mode_changed(writer), cpu_attention(writer);
    assert_int_equal(vcpu_run(writer, 1000), RUN_HALTED);
    assert_int_equal(writer->s.rip, M_WRITER + n + 1);
}
#define WRITER(code) write_as_program(code, sizeof(code) - 1)

static paddr field_at(enum vmcs_field f)
{
    return M_VMCS + offsetof(struct vmcs_region, f) + vmcs_field_rows[f].offset;
}

enum way { MOV, OPENED_MOV, MOVS, DEVICE, VMWRITE, WAYS };

static void write_proc(enum way way, u32 proc) // the primary processor-based controls
{
    writer->s.gpr[RAX] = proc, writer->s.gpr[RDI] = field_at(VMCS_PRIMARY_PROC_BASED_CONTROLS);
    switch (way) {
    case MOV:
    case OPENED_MOV: WRITER("\x89\x07"); break; // mov [rdi],eax
    case MOVS:
        m_poke64(m, M_DATA, proc);
        writer->s.gpr[RSI] = M_DATA, writer->s.gpr[RCX] = 4;
        WRITER("\xF3\xA4");
        break;
    case DEVICE: phys_write32(&m->phys, 0, writer->s.gpr[RDI], proc); break;
    default:
        m_operand(m, M_VMCS, 0);
        writer->s.gpr[RDI] = M_DATA;
        writer->s.gpr[RCX] = 0x4002;
        WRITER(I_VMPTRLD I_VMWRITE);
        assert_int_equal(cpu_rflags(writer) & FL_ARITH, 0);
        break;
    }
}

// The guest loops over RDTSC; the control comes while it is in the loop.
static void controls_of_another_processor(void **state)
{
    for (enum way way = 0; way < WAYS; way++)
        for (unsigned again = 0; again < 3; again++) {
            u32 proc = m->v->vmx->caps.true_allowed0[GROUP_PROC] | PROC_HLT_EXITING;
            if (way == OPENED_MOV) { // while no processor has it current
                assert_int_equal(M_VMX(m, I_VMCLEAR, M_VMCS), 0);
                write_proc(MOV, proc);
                assert_int_equal(M_VMX(m, I_VMPTRLD, M_VMCS), 0);
            } else if (again == 0) {
                assert_int_equal(M_VMX(m, I_VMCLEAR, M_VMCS), 0);
                assert_int_equal(M_VMX(m, I_VMPTRLD, M_VMCS), 0);
            }
            m_write(m, VMCS_PRIMARY_PROC_BASED_CONTROLS, proc);
            m_write(m, VMCS_GUEST_RIP, M_GUEST);
            m_poke(m, M_GUEST, "\x0F\x31\xEB\xFC", 4); // rdtsc; jmp to it
            m_poke(m, M_CODE, again && way != OPENED_MOV ? I_VMRESUME : I_VMLAUNCH, 3);
            m->v->s.rip = M_CODE, m->v->s.activity = ACTIVITY_ACTIVE;
            cpu_mode_changed(m->v), cpu_attention(m->v);
            unsigned exits = m->exits;
            assert_int_equal(vcpu_run(m->v, 200), RUN_BUDGET);
            assert_int_equal(m->exits, exits);
            write_proc(way, proc | PROC_RDTSC_EXITING);
            assert_int_equal(vcpu_run(m->v, 200), RUN_HALTED);
            if (m->exits != exits + 1) fail_msg("way %u: the guest ran on under the old controls", way);
            assert_int_equal(m->last_exit.reason, EXIT_REASON_RDTSC);
            assert_int_equal(m->v->s.rip, M_HOST + 1);
        }
}

// The other one had it current too, and has left it: it is watched still.
static void another_leaves_the_vmcs(void **state)
{
    static const char *const leave[] = {I_VMCLEAR, I_VMXOFF, NULL};
    for (unsigned i = 0; i < ARRAY_LEN(leave); i++) {
        assert_true(phys_code_or_watch(&m->phys, M_VMCS));
        m_operand(m, M_VMCS, 0);
        writer->s.gpr[RDI] = M_DATA;
        writer->s.vmx.on = true, writer->s.vmx.vmxon_pointer = M_VMCS2;
        WRITER(I_VMPTRLD);
        if (leave[i])
            write_as_program(leave[i], i == 0 ? 4 : 3);
        else
            vcpu_reset(writer, false);
        assert_int_equal(writer->s.vmx.vmcs_pointer, VMX_NO_POINTER);
        assert_true(phys_code_or_watch(&m->phys, M_VMCS));
        if (!leave[i]) break;
        m_write(m, VMCS_EXCEPTION_BITMAP, 0);
        assert_int_equal(vmx_controls(m->v)->exception_bitmap, 0);
        for (u32 x = 1; x < 4; x++) {
            writer->s.gpr[RAX] = x, writer->s.gpr[RDI] = field_at(VMCS_EXCEPTION_BITMAP);
            WRITER("\x89\x07");
            assert_int_equal(vmx_controls(m->v)->exception_bitmap, x);
        }
    }
    assert_int_equal(M_VMX(m, I_VMCLEAR, M_VMCS), 0); // now nobody has it
    assert_false(phys_code_or_watch(&m->phys, M_VMCS));
}

// What the processor itself writes to its VMCS (an exit's information) may be what another runs as code.
static void code_in_the_vmcs(void **state)
{
    paddr at = field_at(VMCS_EXIT_QUALIFICATION); // mov eax,imm32; hlt
    for (u64 x = 1; x < 4; x++) {
        m->v->s.gpr[RCX] = vmcs_field_rows[VMCS_EXIT_QUALIFICATION].encoding;
        m->v->s.gpr[RAX] = 0xB8 | x << 8 | 0xF4ull << 40;
        assert_int_equal(M_RUN(m, I_VMWRITE), -1);
        assert_int_equal(m_outcome(m), 0);
        writer->s.rip = at, writer->s.activity = ACTIVITY_ACTIVE;
        cpu_mode_changed(writer), cpu_attention(writer);
        assert_int_equal(vcpu_run(writer, 1000), RUN_HALTED);
        assert_int_equal(writer->s.gpr[RAX], x);
    }
}

static int loop;
#define BOTH(f) \
    {#f " (threaded)", f, setup, teardown, NULL}, { #f " (loop)", f, setup, teardown, &loop }

int main(void)
{
    const struct CMUnitTest tests[] = {BOTH(controls_of_another_processor), BOTH(another_leaves_the_vmcs),
                                       BOTH(code_in_the_vmcs)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
