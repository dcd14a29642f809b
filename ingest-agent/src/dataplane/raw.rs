//! The few bpf(2) commands that aya has no call for: batched reads and writes, deletion from arrays of maps and device
//! maps, which map an array of maps holds, what a link is attached to; and waiting for a ring. Nothing else calls
//! bpf(2) itself.
#![expect(unsafe_code, reason = "bpf(2) takes pointers")]

use std::{
    ffi::CString,
    io,
    mem::{MaybeUninit, size_of},
    os::{
        fd::{AsFd, AsRawFd, FromRawFd, OwnedFd},
        unix::ffi::OsStrExt,
    },
    path::Path,
};

use aya::Pod;
use aya_obj::generated::{
    bpf_attr, bpf_cmd, bpf_link_info, bpf_link_type, bpf_map_info, bpf_map_type, bpf_prog_info,
};
use tokio::io::{Interest, unix::AsyncFd};

/// An attribute block of zeros, as the kernel wants unused fields.
fn zeroed_attr() -> bpf_attr {
    // SAFETY: a union of plain integers and arrays of them; all zeros is a valid value of each.
    unsafe { MaybeUninit::zeroed().assume_init() }
}

/// `bpf(2)`. The pointers in `attr` must be valid for what `command` does with them.
unsafe fn bpf(command: bpf_cmd, attr: &mut bpf_attr) -> io::Result<libc::c_long> {
    // SAFETY: `attr` lives through the call and its size is given; the caller vouches for the pointers in it.
    let result = unsafe {
        libc::syscall(
            libc::SYS_bpf,
            command as libc::c_long,
            std::ptr::from_mut(attr),
            size_of::<bpf_attr>(),
        )
    };
    if result < 0 {
        Err(io::Error::last_os_error())
    } else {
        Ok(result)
    }
}

/// The file descriptor as bpf(2) takes it. Descriptors are never negative.
fn raw(fd: &impl AsFd) -> u32 {
    fd.as_fd().as_raw_fd().unsigned_abs()
}

fn address<T>(pointer: *const T) -> u64 {
    pointer as u64
}

/// The kernel's own code for "this kind of map cannot do that"; libc has no name for it.
const ENOTSUPP: i32 = 524;

/// How many entries one call copies: 1 MiB of flows.
const BATCH: usize = 4096;

/// Calls `visit` on every entry of an array, hash, LRU or LPM map, thousands per system call. An entry that comes or
/// goes meanwhile may be missed or, in an LPM map, seen twice.
///
/// LPM maps before Linux 5.13 are asked for one entry at a time.
pub(super) fn for_each<K: Pod, V: Pod>(
    map: &impl AsFd,
    mut visit: impl FnMut(&K, &V),
) -> io::Result<()> {
    let mut size = BATCH;
    let mut keys: Vec<MaybeUninit<K>> = Vec::new();
    let mut values: Vec<MaybeUninit<V>> = Vec::new();
    // The position between calls: a bucket number, or a key, in the kernel's own form.
    let token_words = size_of::<K>()
        .max(size_of::<u32>())
        .div_ceil(size_of::<u64>());
    let mut token = vec![0_u64; token_words];
    let mut next = vec![0_u64; token_words];
    let mut first = true;
    loop {
        keys.resize(size, MaybeUninit::uninit());
        values.resize(size, MaybeUninit::uninit());
        let mut attr = zeroed_attr();
        attr.batch.in_batch = if first { 0 } else { address(token.as_ptr()) };
        attr.batch.out_batch = address(next.as_mut_ptr());
        attr.batch.keys = address(keys.as_mut_ptr());
        attr.batch.values = address(values.as_mut_ptr());
        attr.batch.count = size as u32;
        attr.batch.map_fd = raw(map);
        // SAFETY: both buffers hold `size` entries of the map's key and value sizes (the typed maps this is called
        // with checked them), the tokens are as large as a key; all live through the call.
        let result = unsafe { bpf(bpf_cmd::BPF_MAP_LOOKUP_BATCH, &mut attr) };
        // SAFETY: `batch` is the member the kernel wrote.
        let count = unsafe { attr.batch.count } as usize;
        let last = match result {
            Ok(_) => false,
            Err(error) if error.raw_os_error() == Some(libc::ENOENT) => true,
            // One bucket of a hash map holds more than fits: ask again with room.
            Err(error) if error.raw_os_error() == Some(libc::ENOSPC) => {
                size *= 2;
                continue;
            }
            Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
            Err(error) if error.raw_os_error() == Some(ENOTSUPP) => return one_by_one(map, visit),
            Err(error) => return Err(error),
        };
        for (key, value) in keys.iter().zip(&values).take(count) {
            // SAFETY: the kernel has written the first `count` entries, and every bit pattern is valid for `Pod`.
            visit(unsafe { key.assume_init_ref() }, unsafe {
                value.assume_init_ref()
            });
        }
        if last {
            return Ok(());
        }
        first = false;
        std::mem::swap(&mut token, &mut next);
    }
}

/// [`for_each`] where the map has no batches.
fn one_by_one<K: Pod, V: Pod>(map: &impl AsFd, mut visit: impl FnMut(&K, &V)) -> io::Result<()> {
    let mut before: Option<K> = None;
    loop {
        let mut key = MaybeUninit::<K>::uninit();
        let mut attr = zeroed_attr();
        attr.__bindgen_anon_2.map_fd = raw(map);
        attr.__bindgen_anon_2.key = before
            .as_ref()
            .map_or(0, |key| address(std::ptr::from_ref(key)));
        attr.__bindgen_anon_2.__bindgen_anon_1.next_key = address(key.as_mut_ptr());
        // SAFETY: both keys live through the call and have the map's key size.
        match unsafe { bpf(bpf_cmd::BPF_MAP_GET_NEXT_KEY, &mut attr) } {
            Ok(_) => {}
            Err(error) if error.raw_os_error() == Some(libc::ENOENT) => return Ok(()),
            Err(error) => return Err(error),
        }
        // SAFETY: the kernel has written it, and every bit pattern is valid for `Pod`.
        let key = unsafe { key.assume_init() };
        if let Some(value) = lookup::<K, V>(map, &key)? {
            visit(&key, &value);
        }
        before = Some(key);
    }
}

/// The value in `bytes`, if that is exactly its size.
pub(super) fn read<T: Pod>(bytes: &[u8]) -> Option<T> {
    if bytes.len() != size_of::<T>() {
        return None;
    }
    // SAFETY: the length is checked, the read is unaligned, and every bit pattern is valid for `Pod`.
    Some(unsafe { bytes.as_ptr().cast::<T>().read_unaligned() })
}

/// Waits for a ring buffer to have something. Needs a tokio runtime. `ring` must keep one descriptor open for as long
/// as it lives, which its owner vouches for by [`AsFd`].
pub(super) fn readable<T: AsFd + AsRawFd>(ring: T) -> io::Result<AsyncFd<T>> {
    // SAFETY: the descriptor is owned by `ring`, which lives in the `AsyncFd` and never exchanges it.
    unsafe { AsyncFd::register_with_interest(ring, Interest::READABLE) }.map_err(io::Error::from)
}

/// Deletes an element; `false` if there was none.
pub(super) fn delete<K: Pod>(map: &impl AsFd, key: &K) -> io::Result<bool> {
    let mut attr = zeroed_attr();
    attr.__bindgen_anon_2.map_fd = raw(map);
    attr.__bindgen_anon_2.key = address(std::ptr::from_ref(key));
    // SAFETY: `key` lives through the call and has the map's key size.
    match unsafe { bpf(bpf_cmd::BPF_MAP_DELETE_ELEM, &mut attr) } {
        Ok(_) => Ok(true),
        Err(error) if error.raw_os_error() == Some(libc::ENOENT) => Ok(false),
        Err(error) => Err(error),
    }
}

/// Makes an array of one element.
pub(super) fn create_array<V: Pod>() -> io::Result<OwnedFd> {
    let mut attr = zeroed_attr();
    // SAFETY: the member that belongs to the command, of plain integers.
    let array = unsafe { &mut attr.__bindgen_anon_1 };
    array.map_type = bpf_map_type::BPF_MAP_TYPE_ARRAY as u32;
    array.key_size = size_of::<u32>() as u32;
    array.value_size = size_of::<V>() as u32;
    array.max_entries = 1;
    // SAFETY: no pointers in it.
    let fd = unsafe { bpf(bpf_cmd::BPF_MAP_CREATE, &mut attr) }?;
    owned(fd)
}

/// Writes an element.
pub(super) fn update<K: Pod, V: Pod>(map: &impl AsFd, key: &K, value: &V) -> io::Result<()> {
    let mut attr = zeroed_attr();
    attr.__bindgen_anon_2.map_fd = raw(map);
    attr.__bindgen_anon_2.key = address(std::ptr::from_ref(key));
    attr.__bindgen_anon_2.__bindgen_anon_1.value = address(std::ptr::from_ref(value));
    // SAFETY: both live through the call and have the map's key and value sizes.
    unsafe { bpf(bpf_cmd::BPF_MAP_UPDATE_ELEM, &mut attr) }.map(drop)
}

/// Reads an element; of an array of maps, the id of the inner map.
pub(super) fn lookup<K: Pod, V: Pod>(map: &impl AsFd, key: &K) -> io::Result<Option<V>> {
    let mut value = MaybeUninit::<V>::uninit();
    let mut attr = zeroed_attr();
    attr.__bindgen_anon_2.map_fd = raw(map);
    attr.__bindgen_anon_2.key = address(std::ptr::from_ref(key));
    attr.__bindgen_anon_2.__bindgen_anon_1.value = address(value.as_mut_ptr());
    // SAFETY: both live through the call and have the map's key and value sizes.
    match unsafe { bpf(bpf_cmd::BPF_MAP_LOOKUP_ELEM, &mut attr) } {
        // SAFETY: the kernel has written it, and every bit pattern is valid for `Pod`.
        Ok(_) => Ok(Some(unsafe { value.assume_init() })),
        Err(error) if error.raw_os_error() == Some(libc::ENOENT) => Ok(None),
        Err(error) => Err(error),
    }
}

/// Puts `inner` into the elements `keys` of an array of maps. Waits once for all (Linux 6.8; before, for each) until
/// no program sees what was there.
pub(super) fn update_inner_maps(
    map: &impl AsFd,
    keys: &[u32],
    inner: &[OwnedFd],
) -> io::Result<()> {
    let values: Vec<u32> = inner.iter().map(raw).collect();
    let mut attr = zeroed_attr();
    attr.batch.keys = address(keys.as_ptr());
    attr.batch.values = address(values.as_ptr());
    attr.batch.count = keys.len().min(values.len()) as u32;
    attr.batch.map_fd = raw(map);
    // SAFETY: both buffers hold `count` entries of the sizes that every array of maps has, and live through the call.
    match unsafe { bpf(bpf_cmd::BPF_MAP_UPDATE_BATCH, &mut attr) } {
        // Before Linux 5.19, or with less than it takes: 6.1 says EINVAL.
        Err(error) if matches!(error.raw_os_error(), Some(ENOTSUPP | libc::EINVAL)) => {
            let mut pairs = keys.iter().zip(&values);
            pairs.try_for_each(|(key, value)| update(map, key, value))
        }
        other => other.map(drop),
    }
}

/// The kernel's id of a map.
pub(super) fn map_id(map: &impl AsFd) -> io::Result<u32> {
    // SAFETY: plain integers; all zeros is valid.
    let mut info: bpf_map_info = unsafe { MaybeUninit::zeroed().assume_init() };
    let mut attr = zeroed_attr();
    attr.info.bpf_fd = raw(map);
    attr.info.info_len = size_of::<bpf_map_info>() as u32;
    attr.info.info = address(std::ptr::from_mut(&mut info));
    // SAFETY: `info` lives through the call and its size is given.
    unsafe { bpf(bpf_cmd::BPF_OBJ_GET_INFO_BY_FD, &mut attr) }?;
    Ok(info.id)
}

/// The descriptor that a command has just opened.
fn owned(fd: libc::c_long) -> io::Result<OwnedFd> {
    let fd = i32::try_from(fd).map_err(io::Error::other)?;
    // SAFETY: the kernel has just opened it for us, nobody else owns it.
    Ok(unsafe { OwnedFd::from_raw_fd(fd) })
}

/// Opens what is pinned at `path`.
pub(super) fn open_pin(path: &Path) -> io::Result<OwnedFd> {
    let name = CString::new(path.as_os_str().as_bytes())?;
    let mut attr = zeroed_attr();
    attr.__bindgen_anon_4.pathname = address(name.as_ptr());
    // SAFETY: `name` is a NUL-terminated string that lives through the call.
    let fd = unsafe { bpf(bpf_cmd::BPF_OBJ_GET, &mut attr) }?;
    owned(fd)
}

/// The name of an interface in the calling thread's network namespace.
pub(super) fn interface_name(ifindex: u32) -> Option<String> {
    // nix takes the null pointer of an unknown index for success, and leaves the name empty.
    let name = nix::net::if_::if_indextoname(ifindex).ok()?;
    Some(name.to_string_lossy().into_owned()).filter(|name| !name.is_empty())
}

/// What a link or a pinned program is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Attachment {
    /// Id of the link; 0: a program that a filter runs.
    pub(super) link_id: u32,
    /// Id of the program in it.
    pub(super) program_id: u32,
    /// Index of the interface; 0: it is gone.
    pub(super) ifindex: u32,
}

impl Attachment {
    /// Whether it is no link but a filter.
    pub(super) fn is_filter(self) -> bool {
        self.link_id == 0
    }
}

/// Asks the kernel about an XDP or tcx link, or about a program. Other kinds of links, and programs, have interface
/// index 0.
pub(super) fn attachment(link: &impl AsFd) -> io::Result<Attachment> {
    let descriptor = format!("/proc/self/fd/{}", link.as_fd().as_raw_fd());
    if std::fs::read_link(descriptor)?.as_os_str() == "anon_inode:bpf-prog" {
        // SAFETY: integers and arrays of them; all zeros is valid.
        let mut info: bpf_prog_info = unsafe { MaybeUninit::zeroed().assume_init() };
        let mut attr = zeroed_attr();
        attr.info.bpf_fd = raw(link);
        attr.info.info_len = size_of::<bpf_prog_info>() as u32;
        attr.info.info = address(std::ptr::from_mut(&mut info));
        // SAFETY: `info` lives through the call, its size is given, and its lists have no room.
        unsafe { bpf(bpf_cmd::BPF_OBJ_GET_INFO_BY_FD, &mut attr) }?;
        return Ok(Attachment {
            link_id: 0,
            program_id: info.id,
            ifindex: 0,
        });
    }
    // SAFETY: integers and unions of them; all zeros is valid.
    let mut info: bpf_link_info = unsafe { MaybeUninit::zeroed().assume_init() };
    let mut attr = zeroed_attr();
    attr.info.bpf_fd = raw(link);
    attr.info.info_len = size_of::<bpf_link_info>() as u32;
    attr.info.info = address(std::ptr::from_mut(&mut info));
    // SAFETY: `info` lives through the call and its size is given.
    unsafe { bpf(bpf_cmd::BPF_OBJ_GET_INFO_BY_FD, &mut attr) }?;
    let ifindex = if info.type_ == bpf_link_type::BPF_LINK_TYPE_XDP as u32 {
        // SAFETY: the member that belongs to the type, of plain integers.
        unsafe { info.__bindgen_anon_1.xdp.ifindex }
    } else if info.type_ == bpf_link_type::BPF_LINK_TYPE_TCX as u32 {
        // SAFETY: as above.
        unsafe { info.__bindgen_anon_1.tcx.ifindex }
    } else {
        0
    };
    Ok(Attachment {
        link_id: info.id,
        program_id: info.prog_id,
        ifindex,
    })
}

/// Lets this process's maps have memory: before Linux 5.11 they count as locked pages, and the usual limit is too low
/// for any of ours. Where it may not, and it matters, creating the maps fails and says so.
pub(super) fn lift_memory_limit() {
    let all = libc::rlimit {
        rlim_cur: libc::RLIM_INFINITY,
        rlim_max: libc::RLIM_INFINITY,
    };
    // SAFETY: `all` lives through the call.
    if unsafe { libc::setrlimit(libc::RLIMIT_MEMLOCK, &raw const all) } != 0 {
        let error = io::Error::last_os_error();
        tracing::debug!(%error, "the limit of locked memory stays; kernels before 5.11 count maps in it");
    }
}

/// Detaches a link at once. Removing its pin alone would do so some milliseconds later, from a kernel worker.
pub(super) fn detach(link: &impl AsFd) -> io::Result<()> {
    let mut attr = zeroed_attr();
    attr.link_detach.link_fd = raw(link);
    // SAFETY: no pointers in it.
    unsafe { bpf(bpf_cmd::BPF_LINK_DETACH, &mut attr) }.map(drop)
}
