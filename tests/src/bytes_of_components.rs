//! Components as bytes, made to be hard to read or to compile. In the words of the binary format: section, type, code.

/// A component of nothing but an import of an instance with this name and no content.
#[must_use]
pub fn importing(name: &str) -> Vec<u8> {
    // One type, an instance type (0x42) of no declarations; one import, an instance (5) of type 0.
    let import = [&[1, 0][..], &counted(name.as_bytes()), &[5, 0]].concat();
    component(&[section(7, &[1, 0x42, 0]), section(10, &import)])
}

/// A component with this core module in it, and nothing more.
#[must_use]
pub fn with_module(module: &[u8]) -> Vec<u8> {
    component(&[section(1, module)])
}

/// So many components, one in the other.
#[must_use]
pub fn nested_components(depth: usize) -> Vec<u8> {
    (0..depth).fold(component(&[]), |inner, _| component(&[section(4, &inner)]))
}

/// A list of lists of lists.
#[must_use]
pub fn deep_types(depth: u32) -> Vec<u8> {
    // list (0x70) of u8 (0x7d), then lists of the type before.
    let mut types = [number(depth), vec![0x70, 0x7d]].concat();
    for before in 0..depth - 1 {
        types.push(0x70);
        types.extend(number(before));
    }
    component(&[section(7, &types)])
}

/// A pair of pairs of pairs: twice as large with each line.
#[must_use]
pub fn doubling_types(lines: u32) -> Vec<u8> {
    // tuple (0x6f) of two u8, then of two of the type before.
    let mut types = [number(lines), vec![0x6f, 2, 0x7d, 0x7d]].concat();
    for before in 0..lines - 1 {
        types.extend([0x6f, 2]);
        types.extend(number(before));
        types.extend(number(before));
    }
    component(&[section(7, &types)])
}

/// A core module whose one function is so many blocks, one in the other.
#[must_use]
pub fn deep_blocks(depth: usize) -> Vec<u8> {
    let body = [vec![0], [0x02, 0x40].repeat(depth), vec![0x0b; depth + 1]].concat();
    module(&[body])
}

/// A core module of so many functions of some 100 kB, each a long walk through branches with many values alive.
#[must_use]
pub fn slow_to_compile(functions: usize) -> Vec<u8> {
    const LOCALS: u32 = 200;
    const STEPS: u32 = 5_000;
    // 200 locals of i64 (0x7e).
    let mut body = [vec![1], number(LOCALS), vec![0x7e]].concat();
    let mut state = 1_u32;
    let mut any = move || {
        state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        (state >> 8) % LOCALS
    };
    // loop: what is alive goes round.
    body.extend([0x03, 0x40]);
    for _ in 0..STEPS {
        let (to, one, other, tested) = (any(), any(), any(), any());
        // local.set(to, rotl(mul(one, other) xor tested, other)); br_if back to the loop when tested is 0.
        for local in [one, other] {
            body.push(0x20);
            body.extend(number(local));
        }
        body.push(0x7e);
        body.push(0x20);
        body.extend(number(tested));
        body.extend([0x85, 0x21]);
        body.extend(number(to));
        body.push(0x20);
        body.extend(number(tested));
        body.extend([0x50, 0x0d, 0]);
    }
    body.extend([0x0b, 0x0b]);
    module(&vec![body; functions])
}

/// A core module of functions without parameters and results, with these bodies.
fn module(bodies: &[Vec<u8>]) -> Vec<u8> {
    let count = number(u32::try_from(bodies.len()).unwrap_or(u32::MAX));
    let functions = [count.clone(), vec![0; bodies.len()]].concat();
    let code = [count, bodies.iter().flat_map(|body| counted(body)).collect()].concat();
    [b"\0asm\x01\0\0\0".to_vec(), section(1, &[1, 0x60, 0, 0]), section(3, &functions), section(10, &code)].concat()
}

fn component(sections: &[Vec<u8>]) -> Vec<u8> {
    [b"\0asm\x0d\0\x01\0".to_vec(), sections.concat()].concat()
}

fn section(id: u8, content: &[u8]) -> Vec<u8> {
    [vec![id], counted(content)].concat()
}

fn counted(content: &[u8]) -> Vec<u8> {
    [number(u32::try_from(content.len()).unwrap_or(u32::MAX)), content.to_vec()].concat()
}

/// LEB128.
fn number(mut value: u32) -> Vec<u8> {
    let mut bytes = Vec::new();
    loop {
        let low = (value & 0x7f) as u8;
        value >>= 7;
        if value == 0 {
            bytes.push(low);
            return bytes;
        }
        bytes.push(low | 0x80);
    }
}
