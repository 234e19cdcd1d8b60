//! `/proc/PID/mountinfo`, as bytes: a name on a file system is whatever somebody called it.

use std::borrow::Cow;
use std::collections::BTreeSet;

use crate::model::storage::MountFact;

/// One mount of a mount namespace.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Mount<'t> {
    /// Its number; no other mount of the machine has it while this one is there.
    pub id: u64,
    /// The mount that it is mounted on.
    pub parent: u64,
    /// The file system, as `major:minor`.
    pub device: (u32, u32),
    /// Which directory of the file system is mounted.
    pub root: Cow<'t, [u8]>,
    /// Where.
    pub point: Cow<'t, [u8]>,
    /// Whether nothing can be written, be it through this mount or at all.
    pub read_only: bool,
    /// The file-system type, such as `nfs4` or `fuse.glusterfs`.
    pub file_system: Cow<'t, [u8]>,
    /// What is mounted, as its file system tells it.
    pub source: Cow<'t, [u8]>,
}

/// The mounts in a mountinfo, in its order. A line that is none is passed over.
pub fn entries(text: &[u8]) -> impl Iterator<Item = Mount<'_>> {
    text.split(|byte| *byte == b'\n').filter_map(entry)
}

fn entry(line: &[u8]) -> Option<Mount<'_>> {
    let mut fields = line.split(|byte| *byte == b' ');
    let (id, parent) = (number(fields.next()?)?, number(fields.next()?)?);
    let device = fields.next()?;
    let colon = device.iter().position(|byte| *byte == b':')?;
    let device = (number(&device[..colon])?.try_into().ok()?, number(&device[colon + 1..])?.try_into().ok()?);
    let (root, point, options) = (fields.next()?, fields.next()?, fields.next()?);
    // Any number of fields that may be there, such as `shared:7`, up to a lone dash.
    fields.by_ref().find(|field| *field == b"-")?;
    let (file_system, source, of_file_system) = (fields.next()?, fields.next()?, fields.next().unwrap_or_default());
    Some(Mount {
        id,
        parent,
        device,
        root: unescaped(root),
        point: unescaped(point),
        read_only: is_read_only(options) || is_read_only(of_file_system),
        file_system: unescaped(file_system),
        source: unescaped(source),
    })
}

fn number(digits: &[u8]) -> Option<u64> {
    std::str::from_utf8(digits).ok()?.parse().ok()
}

fn is_read_only(options: &[u8]) -> bool {
    options.split(|byte| *byte == b',').any(|option| option == b"ro")
}

/// The kernel writes blanks, line breaks and backslashes in names as a backslash and three octal digits.
fn unescaped(field: &[u8]) -> Cow<'_, [u8]> {
    if !field.contains(&b'\\') {
        return Cow::Borrowed(field);
    }
    let (mut bytes, mut rest) = (Vec::with_capacity(field.len()), field);
    while let Some((first, after)) = rest.split_first() {
        let digits = after.get(..3).filter(|_| *first == b'\\');
        match digits.and_then(octal) {
            Some(byte) => {
                bytes.push(byte);
                rest = &after[3..];
            }
            None => {
                bytes.push(*first);
                rest = after;
            }
        }
    }
    Cow::Owned(bytes)
}

fn octal(digits: &[u8]) -> Option<u8> {
    let value = digits.iter().try_fold(0_u32, |sum, digit| match digit {
        b'0'..=b'7' => Some(sum * 8 + u32::from(digit - b'0')),
        _ => None,
    });
    value.and_then(|value| u8::try_from(value).ok())
}

/// The mount that an absolute path lies on, the way the kernel finds it: from the root on, at each mount point on the way
/// over to what is mounted there last. So a mount counts that hides another one below its own point, although the path
/// has more in common with the hidden one.
pub fn covering<'t>(entries: impl IntoIterator<Item = Mount<'t>>, path: &[u8]) -> Option<Mount<'t>> {
    let mut along: Vec<Mount<'t>> = entries.into_iter().filter(|mount| is_below(path, &mount.point)).collect();
    let known: BTreeSet<u64> = along.iter().map(|mount| mount.id).collect();
    let is_bottom = |mount: &Mount<'_>| mount.parent == mount.id || !known.contains(&mount.parent);
    let bottom = along.iter().rposition(|mount| is_bottom(mount) && *mount.point == *b"/");
    let Some(bottom) = bottom else {
        // A list without a root, as somebody with another root directory sees it.
        return along.into_iter().max_by_key(|mount| mount.point.len());
    };
    let mut at = along.remove(bottom);
    along.sort_by_key(|mount| std::cmp::Reverse(mount.point.len())); // stable: of one length, the last stays last
    while let Some(next) = along.iter().rposition(|mount| mount.parent == at.id) {
        at = along.remove(next);
    }
    Some(at)
}

/// Whether a path is another one, or lies below it.
fn is_below(path: &[u8], above: &[u8]) -> bool {
    let above = above.strip_suffix(b"/").unwrap_or(above);
    path.strip_prefix(above).is_some_and(|rest| rest.is_empty() || rest[0] == b'/')
}

impl Mount<'_> {
    /// Where on its file system a path lies that this mount covers.
    pub fn place(&self, path: &[u8]) -> Vec<u8> {
        let point = self.point.strip_suffix(b"/").unwrap_or(&self.point);
        let rest = path.strip_prefix(point).unwrap_or_default();
        let mut place = self.root.strip_suffix(b"/").unwrap_or(&self.root).to_vec();
        place.extend_from_slice(rest.strip_suffix(b"/").unwrap_or(rest));
        if place.is_empty() {
            place.push(b'/');
        }
        place
    }

    /// The same, apart from the list that it was read from.
    pub fn into_owned(self) -> Mount<'static> {
        let own = |name: Cow<'_, [u8]>| Cow::Owned(name.into_owned());
        Mount {
            id: self.id,
            parent: self.parent,
            device: self.device,
            read_only: self.read_only,
            root: own(self.root),
            point: own(self.point),
            file_system: own(self.file_system),
            source: own(self.source),
        }
    }

    /// What a report tells of it.
    pub fn fact(&self) -> MountFact {
        let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
        MountFact {
            mount_point: text(&self.point),
            file_system: text(&self.file_system),
            source: text(&self.source),
            read_only: self.read_only,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const HOST: &[u8] = b"22 1 8:1 / / rw,relatime shared:1 - ext4 /dev/sda1 rw\n\
        30 22 0:44 / /data rw shared:9 master:3 propagate_from:2 - nfs4 10.0.0.5:/k8s rw,vers=4.2\n\
        31 30 0:45 /sub /data/k8s ro,nosuid - fuse.glusterfs gs:/vol rw\n\
        40 22 0:50 / /mnt/with\\040blank\\011tab\\012line\\134back rw - ceph mon:/ rw\n\
        41 22 0:51 / /mnt/\xff\xfe rw - fuse.juicefs Juice\\043FS rw\n\
        50 22 0:60 / /twice rw - nfs old:/ rw\n\
        51 50 0:61 / /twice rw - nfs new:/ rw\n\
        not a line\n";

    fn source(path: &[u8]) -> String {
        covering(entries(HOST), path).map(|mount| mount.fact().source).unwrap_or_default()
    }

    #[test]
    fn the_mount_of_a_path() {
        for (path, on) in [
            (&b"/"[..], "/dev/sda1"),
            (b"/etc", "/dev/sda1"),
            (b"/data", "10.0.0.5:/k8s"),
            (b"/database", "/dev/sda1"),
            (b"/data/k8", "10.0.0.5:/k8s"),
            (b"/data/k8s/kubeflow", "gs:/vol"),
            (b"/mnt/with blank\ttab\nline\\back/x", "mon:/"),
            (b"/mnt/\xff\xfe", "Juice#FS"),
            (b"/mnt/\xff", "/dev/sda1"),
            (b"/twice/x", "new:/"),
        ] {
            assert_eq!(source(path), on, "{}", String::from_utf8_lossy(path));
        }
    }

    #[test]
    fn what_hides_a_mount_counts() {
        // /a/b was mounted first, then something over /a: whoever walks there never comes to the first.
        let text =
            b"1 0 8:1 / / rw - ext4 disk rw\n2 1 0:2 / /a/b rw - nfs hidden:/ rw\n3 1 0:3 / /a rw - tmpfs over rw\n";
        assert_eq!(covering(entries(text), b"/a/b/c").unwrap().source, &b"over"[..]);
        // The initial root file system lies below the root that everybody sees.
        let text = b"1 1 0:1 / / rw - rootfs rootfs rw\n2 1 8:1 / / rw - ext4 disk rw\n";
        assert_eq!(covering(entries(text), b"/x").unwrap().source, &b"disk"[..]);
    }

    #[test]
    fn a_list_without_a_root() {
        let text = b"9 5 0:2 / /a rw - nfs a:/ rw\n10 9 0:3 / /a/b rw - nfs b:/ rw\n";
        assert_eq!(covering(entries(text), b"/a/b/c").unwrap().source, &b"b:/"[..]);
        assert_eq!(covering(entries(text), b"/c"), None);
        assert_eq!(covering(entries(b""), b"/"), None);
    }

    #[test]
    fn places_and_options() {
        let mount = covering(entries(HOST), b"/data/k8s/a").unwrap();
        assert_eq!((mount.place(b"/data/k8s/a"), mount.place(b"/data/k8s")), (b"/sub/a".to_vec(), b"/sub".to_vec()));
        assert!(mount.read_only);
        let root = covering(entries(HOST), b"/").unwrap();
        assert_eq!((root.place(b"/"), root.place(b"/etc"), root.read_only), (b"/".to_vec(), b"/etc".to_vec(), false));
        let over = b"1 0 8:1 / / rw,ro_not - ext4 disk rw,errors=remount-ro\n2 1 0:2 / /x rw - nfs a:/ ro\n";
        let read_only: Vec<bool> = entries(over).map(|mount| mount.read_only).collect();
        assert_eq!(read_only, [false, true]);
    }

    #[test]
    fn escapes_that_are_none_stay() {
        for (field, name) in
            [(&b"a\\"[..], &b"a\\"[..]), (b"\\04", b"\\04"), (b"\\089", b"\\089"), (b"\\777", b"\\777")]
        {
            assert_eq!(*unescaped(field), *name);
        }
    }

    #[test]
    fn ten_thousand_mounts_are_read() {
        let mut text = b"1 0 8:1 / / rw - ext4 disk rw\n".to_vec();
        for id in 2..10_002_u32 {
            let line =
                format!("{id} 1 0:{id} / /var/lib/kubelet/pods/{id}\\040x/volumes rw shared:{id} - tmpfs t rw\n");
            text.extend_from_slice(line.as_bytes());
        }
        text.extend_from_slice(b"20000 1 0:9 / /data rw - nfs4 a:/ rw\n");
        assert_eq!(entries(&text).count(), 10_002);
        assert_eq!(covering(entries(&text), b"/data/k8s").unwrap().source, &b"a:/"[..]);
    }
}
