//! How much a policy may use.

use std::time::Duration;

/// Bounds of policies. All of them hold per decision unless they say otherwise.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PolicyLimits {
    /// How long one decision may run, rounded up to milliseconds. Default 20 ms.
    pub deadline: Duration,
    /// How long `check-settings` may run. Default 2 s: it runs once, and nobody waits.
    pub check_deadline: Duration,
    /// Linear memory. Default 16 MiB.
    pub max_memory_bytes: usize,
    /// Stack of the guest's functions. Default 512 KiB.
    pub max_stack_bytes: usize,
    /// Size of a component's file. Default 10 MiB.
    pub max_component_bytes: usize,
    /// Size of a tenant's settings as JSON. Default 64 KiB.
    pub max_settings_bytes: usize,
    /// What the host copies out of a guest in one call, in bytes. Default 64 KiB.
    pub answer_bytes: usize,
    /// The same again for every message in the question. Default 1 KiB.
    pub answer_bytes_per_message: usize,
    /// Log lines per decision. Default 16.
    pub max_log_lines: u32,
    /// Log lines per tenant and second. Default 100.
    pub max_log_lines_per_second: u32,
    /// Bytes of a log line; the rest is cut. Default 512.
    pub max_log_line_bytes: usize,
    /// Threads that decide. Default (and 0): as many as cores.
    pub threads: usize,
    /// Questions of one tenant that may wait for a thread. Default 1024.
    pub max_waiting_per_tenant: usize,
    /// Their bytes, about. Default 64 MiB.
    pub max_waiting_bytes_per_tenant: usize,
    /// How long a question may wait for a thread. Default 2 s: whoever asked has its own deadline.
    pub max_wait: Duration,
    /// Ask the kernel which pages a guest wrote, where it can say (`PAGEMAP_SCAN`, Linux 6.7). Default true.
    pub pagemap_scan: bool,
}

/// Bounds of one tenant's policy. They take effect with the next decision.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TenantPolicyLimits {
    /// How long one decision may run, rounded up to milliseconds.
    pub deadline: Duration,
    /// Linear memory; no more than [`PolicyLimits::max_memory_bytes`], for which slots are reserved.
    pub max_memory_bytes: usize,
    /// Threads that decide for this tenant at a time; one at least.
    pub max_decisions_at_once: usize,
    /// Log lines per second.
    pub max_log_lines_per_second: u32,
}

impl Default for PolicyLimits {
    fn default() -> Self {
        PolicyLimits {
            deadline: Duration::from_millis(20),
            check_deadline: Duration::from_secs(2),
            max_memory_bytes: 16 << 20,
            max_stack_bytes: 512 << 10,
            max_component_bytes: 10 << 20,
            max_settings_bytes: 64 << 10,
            answer_bytes: 64 << 10,
            answer_bytes_per_message: 1 << 10,
            max_log_lines: 16,
            max_log_lines_per_second: 100,
            max_log_line_bytes: 512,
            threads: 0,
            max_waiting_per_tenant: 1024,
            max_waiting_bytes_per_tenant: 64 << 20,
            max_wait: Duration::from_secs(2),
            pagemap_scan: true,
        }
    }
}

impl PolicyLimits {
    /// Threads that decide, resolved: at least one. Asks the kernel, which reads files for it, where `threads` is 0.
    #[must_use]
    pub fn thread_count(&self) -> usize {
        match self.threads {
            0 => std::thread::available_parallelism().map_or(1, std::num::NonZero::get),
            threads => threads,
        }
    }

    /// What a tenant has that nothing else is said of: half of the threads, and everything else as the engine has it.
    #[must_use]
    pub fn of_a_tenant(&self) -> TenantPolicyLimits {
        TenantPolicyLimits {
            deadline: self.deadline,
            max_memory_bytes: self.max_memory_bytes,
            max_decisions_at_once: (self.thread_count() / 2).max(1),
            max_log_lines_per_second: self.max_log_lines_per_second,
        }
    }

    /// What the host copies out of a guest that was asked about so many messages.
    pub(crate) fn answer_bytes_for(&self, messages: usize) -> usize {
        self.answer_bytes.saturating_add(self.answer_bytes_per_message.saturating_mul(messages))
    }
}

/// A span in whole milliseconds, one at least: ticks of the engine's clock.
pub(crate) fn whole_milliseconds(span: Duration) -> u64 {
    u64::try_from(span.as_micros().div_ceil(1_000)).unwrap_or(u64::MAX).max(1)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn spans_are_never_cut() {
        for (micros, expected) in [(0, 1), (1, 1), (1_000, 1), (1_001, 2), (20_000, 20)] {
            assert_eq!(whole_milliseconds(Duration::from_micros(micros)), expected);
        }
        assert_eq!(whole_milliseconds(Duration::MAX), u64::MAX);
    }
}
