//! Makes keys, signs the zones from the leaves up, and damages some.

use std::{
    ffi::OsStr,
    fs,
    path::{Path, PathBuf},
    process::Command,
    sync::{
        Mutex,
        atomic::{AtomicUsize, Ordering},
    },
    thread,
};

use jiff::{SignedDuration, Timestamp};

use super::{
    program, write,
    zones::{self, Chain, Damage, Ds, Keys, P256, Place, Validity, Zone},
};

/// The zones as they are served.
pub(crate) struct Tree {
    /// Place, name with final dot, and file of each zone.
    pub(crate) served: Vec<(Place, String, String)>,
    /// The DS record of the root.
    pub(crate) anchor: String,
}

/// Makes all zones in `directory`.
pub(crate) fn build(directory: &Path) -> Tree {
    let zones = zones::all();
    let keys = in_parallel(&zones, |zone| make_keys(directory, zone));
    let mut ds: Vec<String> = vec![String::new(); zones.len()];
    let deepest = zones.iter().map(Zone::depth).max().unwrap_or_default();
    for depth in (0..=deepest).rev() {
        let level: Vec<_> = (0..zones.len()).filter(|&n| zones[n].depth() == depth).collect();
        let signed = in_parallel(&level, |&n| {
            let children = zones.iter().zip(&ds).filter(|(child, _)| parent(&zones, child) == Some(n));
            let delegations: String = children
                .filter(|(child, _)| child.place != Place::Stale)
                .map(|(child, ds)| child.delegation() + ds)
                .collect();
            make_zone(directory, &zones[n], &keys[n], &delegations)
        });
        for (n, its_ds) in level.into_iter().zip(signed) {
            ds[n] = its_ds;
        }
    }
    let served = zones.iter().filter(|zone| !zone.place.server().is_empty());
    let served = served.map(|zone| (zone.place, zone.fqdn(), file_name(zone, "served")));
    Tree { served: served.collect(), anchor: ds[0].trim().to_owned() }
}

/// The zone that delegates to `child`: the deepest one above it.
fn parent(zones: &[Zone], child: &Zone) -> Option<usize> {
    let above = (0..zones.len()).filter(|&n| zones[n].place != Place::Stale && zones[n].is_above(child));
    above.max_by_key(|&n| zones[n].depth())
}

/// Files of keys, without extension.
struct KeyFiles {
    signing: Vec<PathBuf>,
    /// The one the DS record is of.
    ds: Option<PathBuf>,
}

/// Keys of the zone itself, and of another key if the DS record is to be of that.
fn make_keys(directory: &Path, zone: &Zone) -> KeyFiles {
    let at = directory.join(file_name(zone, "keys"));
    fs::create_dir(&at).expect("a temporary directory");
    // The signer uses all keys of the folder.
    let elsewhere = at.join("elsewhere");
    fs::create_dir(&elsewhere).expect("a temporary directory");
    let make = |folder: &Path, algorithm: &[&str], flags: &[&str]| {
        let (name, ttl, shown) = (zone.fqdn(), zone.ttl.to_string(), folder.to_str().expect("UTF-8"));
        let arguments = [&["-q", "-K", shown, "-L", &ttl], algorithm, flags, &[&name]].concat();
        folder.join(run("dnssec-keygen", "bind9-utils", arguments).trim())
    };
    const KSK: &[&str] = &["-f", "KSK"];
    let signing = match zone.keys {
        Keys::Pair(_) if zone.place == Place::Stale => Vec::new(),
        Keys::None => Vec::new(),
        Keys::Single(algorithm) => vec![make(&at, algorithm, KSK)],
        Keys::Pair(algorithm) => vec![make(&at, algorithm, KSK), make(&at, algorithm, &[])],
    };
    let ds = match zone.ds {
        Ds::None => None,
        Ds::OtherKey => Some(make(&elsewhere, P256, KSK)),
        Ds::Own | Ds::UnknownAlgorithm | Ds::UnknownDigest => Some(signing[0].clone()),
    };
    KeyFiles { signing, ds }
}

/// Writes the zone's file and gives its DS record.
fn make_zone(directory: &Path, zone: &Zone, keys: &KeyFiles, delegations: &str) -> String {
    if zone.is_served() {
        let text = zone.records() + delegations;
        let signed = match zone.keys {
            Keys::None => text,
            Keys::Pair(_) | Keys::Single(_) => damage(&sign(directory, zone, keys, &text), zone.damage),
        };
        write(directory, &file_name(zone, "served"), &signed);
    }
    let Some(key) = &keys.ds else { return String::new() };
    let ds = run("dnssec-dsfromkey", "bind9-utils", [OsStr::new("-2"), key.as_os_str()]);
    let mut fields: Vec<_> = ds.split_whitespace().collect();
    match zone.ds {
        Ds::UnknownAlgorithm => fields[4] = "200",
        Ds::UnknownDigest => fields[5] = "200",
        Ds::None | Ds::Own | Ds::OtherKey => {}
    }
    fields.join(" ") + "\n"
}

/// Signs the text of a zone; one record a line comes back.
fn sign(directory: &Path, zone: &Zone, keys: &KeyFiles, text: &str) -> String {
    let input = write(directory, &file_name(zone, "unsigned"), text);
    let output = directory.join(file_name(zone, "signed"));
    let (from, to) = validity(zone.validity);
    let name = zone.fqdn();
    let (input, output_file) = (input.to_str().expect("UTF-8"), output.to_str().expect("UTF-8"));
    if zone.chain == Chain::Iterated {
        // BIND's signer refuses more than 150 iterations.
        let keys = keys.signing.iter().map(|key| key.to_str().expect("UTF-8"));
        let options = ["-n", "-t", "500", "-i", &from, "-e", &to, "-o", &name, "-f", output_file, input];
        run("ldns-signzone", "ldnsutils", options.into_iter().chain(keys));
    } else {
        // The stale copy is signed with the keys of the good one.
        let good = Zone { place: if zone.place == Place::Stale { Place::Three } else { zone.place }, ..zone.clone() };
        let folder = directory.join(file_name(&good, "keys"));
        let folder = folder.to_str().expect("UTF-8");
        let mut options = vec!["-q", "-P", "-S", "-n", "1", "-O", "full", "-K", folder, "-d", folder];
        options.extend(["-s", &from, "-e", &to, "-o", &name, "-f", output_file]);
        options.extend(match zone.chain {
            Chain::Nsec | Chain::Iterated => &[][..],
            Chain::Nsec3 => &["-3", "AB12"],
            Chain::OptOut => &["-3", "-", "-A"],
        });
        options.extend(matches!(zone.keys, Keys::Single(_)).then_some("-z"));
        options.push(input);
        run("dnssec-signzone", "bind9-utils", options);
    }
    fs::read_to_string(output).expect("the signer's output")
}

/// From when and until when signatures are good.
fn validity(validity: Validity) -> (String, String) {
    let hours = match validity {
        Validity::Now => (-1, 24 * 7),
        Validity::Past => (-24 * 30, -24 * 10),
        Validity::Future => (24 * 10, 24 * 30),
    };
    let shown = |hours| {
        let time = Timestamp::now() + SignedDuration::from_hours(hours);
        time.strftime("%Y%m%d%H%M%S").to_string()
    };
    (shown(hours.0), shown(hours.1))
}

/// Damages a signed zone.
fn damage(text: &str, damage: Damage) -> String {
    let kept = text.lines().filter_map(|line| {
        let fields: Vec<_> = line.split_whitespace().collect();
        let [_owner, _ttl, _class, rtype, first, ..] = fields[..] else { return Some(line.to_owned()) };
        // The type, or the type it signs.
        let covered = if rtype == "RRSIG" { first } else { rtype };
        match damage {
            Damage::Unsigned if rtype == "RRSIG" && ["A", "TXT", "CAA"].contains(&covered) => None,
            Damage::Denials if ["NSEC", "NSEC3"].contains(&covered) => None,
            Damage::Signature if rtype == "RRSIG" && ["TXT", "CAA"].contains(&covered) => {
                let mut fields: Vec<_> = fields.iter().map(|&field| field.to_owned()).collect();
                let other = if fields[12].starts_with('A') { "B" } else { "A" };
                fields[12].replace_range(..1, other);
                Some(fields.join(" "))
            }
            Damage::Data if rtype == "TXT" => Some(line.replace(super::CHALLENGE, "other")),
            Damage::Data if rtype == "CAA" => Some(line.replace("ca.example", "other.example")),
            _ if rtype == "CAA" && fields[5].contains(|c: char| c.is_ascii_uppercase()) => Some(as_octets(&fields)),
            Damage::None | Damage::Unsigned | Damage::Denials | Damage::Signature | Damage::Data => {
                Some(line.to_owned())
            }
        }
    });
    kept.map(|line| line + "\n").collect()
}

/// A CAA record in the form of RFC 3597 §5: NSD reads no tags in upper case.
fn as_octets(fields: &[&str]) -> String {
    let (flags, tag) = (fields[4].parse().expect("flags"), fields[5]);
    let rdata = [&[flags, tag.len() as u8], tag.as_bytes(), fields[6].trim_matches('"').as_bytes()].concat();
    let hex: String = rdata.iter().map(|octet| format!("{octet:02x}")).collect();
    format!("{} TYPE257 \\# {} {hex}", fields[..3].join(" "), rdata.len())
}

fn file_name(zone: &Zone, extension: &str) -> String {
    let copy = if zone.place == Place::Stale { ".old" } else { "" };
    let name = if zone.name.is_empty() { "root" } else { zone.name };
    format!("{name}{copy}.{extension}")
}

/// Runs a program and gives what it says on standard output.
fn run<A: AsRef<OsStr>>(name: &str, package: &str, arguments: impl IntoIterator<Item = A>) -> String {
    let mut command = Command::new(program(name, package));
    let output = command.args(arguments).output().expect("a program that was found");
    assert!(output.status.success(), "{command:?}: {}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).expect("text")
}

/// Does the same to each item, in some threads; results come in order.
fn in_parallel<T: Sync, R: Send>(items: &[T], work: impl Fn(&T) -> R + Sync) -> Vec<R> {
    let next = AtomicUsize::new(0);
    let results = Mutex::new(Vec::with_capacity(items.len()));
    let threads = thread::available_parallelism().map_or(2, |count| count.get() + 1);
    thread::scope(|scope| {
        for _ in 0..threads {
            scope.spawn(|| {
                loop {
                    let n = next.fetch_add(1, Ordering::Relaxed);
                    let Some(item) = items.get(n) else { break };
                    let result = work(item);
                    results.lock().expect("no thread panicked").push((n, result));
                }
            });
        }
    });
    let mut results = results.into_inner().expect("no thread panicked");
    results.sort_by_key(|&(n, _)| n);
    results.into_iter().map(|(_, result)| result).collect()
}
