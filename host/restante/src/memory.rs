//! What the allocator holds, by its own count.

/// The heap of this process.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Heap {
    /// Bytes that are allocated: what the program holds, SQLite's pages and compiled filters among it, without stacks, mapped
    /// code and the memories of policies.
    pub in_use_bytes: u64,
    /// Bytes that the allocator has from the kernel, the ones above among them; it keeps some for later.
    pub held_bytes: u64,
}

/// The heap now, where the C library counts it.
#[must_use]
#[cfg(all(target_os = "linux", target_env = "gnu"))]
#[allow(unsafe_code)]
pub fn heap() -> Option<Heap> {
    // glibc has it since 2.33; where it is older, the program is to run all the same.
    // SAFETY: RTLD_DEFAULT is a handle that is always there, and the name ends with a zero.
    let symbol = unsafe { libc::dlsym(libc::RTLD_DEFAULT, c"mallinfo2".as_ptr()) };
    if symbol.is_null() {
        return None;
    }
    // SAFETY: this is how glibc declares what it calls so (malloc.h).
    let mallinfo2 =
        unsafe { std::mem::transmute::<*mut libc::c_void, unsafe extern "C" fn() -> libc::mallinfo2>(symbol) };
    // SAFETY: it takes nothing, gives numbers, and locks each arena while it counts there (mallinfo(3): MT-Unsafe only when
    // mallopt(3) is called beside it, which nothing here does).
    let count = unsafe { mallinfo2() };
    let mapped = count.hblkhd as u64;
    Some(Heap {
        in_use_bytes: (count.uordblks as u64).saturating_add(mapped),
        held_bytes: (count.arena as u64).saturating_add(mapped),
    })
}

/// The heap now: unknown with other C libraries than glibc.
#[must_use]
#[cfg(not(all(target_os = "linux", target_env = "gnu")))]
pub fn heap() -> Option<Heap> {
    None
}

#[cfg(all(test, target_os = "linux", target_env = "gnu"))]
mod tests {
    use super::*;

    #[test]
    fn what_is_allocated_is_counted_and_what_is_freed_is_not() {
        // Small and large: within arenas, and mapped. Other tests allocate beside this one, but hardly half of that.
        for (count, size) in [(100_000_usize, 1_000_usize), (2, 50_000_000)] {
            let bytes = (count * size) as u64;
            let before = heap().unwrap();
            let held: Vec<Vec<u8>> = (0..count).map(|_| vec![1; size]).collect();
            let with = heap().unwrap();
            assert!(held.iter().all(|it| it.len() == size) && with.in_use_bytes >= before.in_use_bytes + bytes / 2);
            assert!(with.held_bytes >= with.in_use_bytes);
            drop(held);
            assert!(heap().unwrap().in_use_bytes <= with.in_use_bytes - bytes / 2);
        }
    }
}
