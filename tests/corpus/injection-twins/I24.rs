pub fn at(v: &[u8], i: usize) -> u8 {
    unsafe { *v.as_ptr().add(i) }
}
