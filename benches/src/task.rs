//! A perspective's task carried out from its plan to its observation, every packet answered at once; no I/O.

use parallax_validation::{
    base::{Micros, address::AddressFilter},
    check::dcv::Method,
    lookup::{
        Dnssec,
        dnssec::chain::ZoneCache,
        task::{Command, Site, Task, TaskSettings},
        tls::{TlsSettings, rustls},
    },
    observation::Observation,
    plan::{ControlPlan, Plan, PlanLimits, inquiry::Inquiry},
};

use crate::{FixedBits, HTTP_RESPONSE, request, started};

const ID: u16 = 0x5eed;
const A: u16 = 1;
const TXT: u16 = 16;
/// A string of 43 octets, as of a digest.
const TXT_RDATA: [u8; 44] = {
    let mut rdata = [b'A'; 44];
    rdata[0] = 43;
    rdata
};

/// Of a perspective whose resolver validates.
///
/// # Panics
/// The TLS provider has nothing to offer.
#[must_use]
pub fn settings() -> TaskSettings {
    TaskSettings {
        resolver: "198.18.0.53:53".parse().expect("an address"),
        filter: AddressFilter::allowing(vec!["192.0.2.0/24".parse().expect("a prefix")]),
        dnssec: Dnssec::Resolver,
        tls: TlsSettings::new(rustls::crypto::ring::default_provider()).expect("TLS"),
    }
}

/// One A record or one TXT record of 43 octets; nothing of any other type, with its SOA. Written into a buffer that is
/// used again: it is not the task's work.
fn answer(query: &[u8], reply: &mut Vec<u8>) {
    let name_end = 12 + query[12..].iter().position(|octet| *octet == 0).expect("a name") + 1;
    let rtype = u16::from_be_bytes([query[name_end], query[name_end + 1]]);
    let rdata: &[u8] = match rtype {
        A => &[192, 0, 2, 10],
        TXT => &TXT_RDATA,
        _ => &[],
    };
    let found = u8::from(!rdata.is_empty());
    reply.clear();
    reply.extend_from_slice(&query[..2]);
    reply.extend_from_slice(&[0x81, 0x80, 0, 1, 0, found, 0, 1 - found, 0, 0]);
    reply.extend_from_slice(&query[12..name_end + 4]);
    if rdata.is_empty() {
        // The SOA of the root: a zone that every name lies in.
        reply.extend_from_slice(&[0, 0, 6, 0, 1, 0, 0, 0, 60, 0, 22, 0, 0]);
        reply.extend_from_slice(&[0; 20]);
    } else {
        reply.extend_from_slice(&[0xc0, 12, rtype.to_be_bytes()[0], rtype.to_be_bytes()[1], 0, 1, 0, 0, 0, 60]);
        reply.extend_from_slice(&(rdata.len() as u16).to_be_bytes());
        reply.extend_from_slice(rdata);
    }
}

/// Carries a plan out.
///
/// # Panics
/// The task asks for something that it was not made for.
pub fn run(plan: &Plan, settings: &TaskSettings, zones: &mut ZoneCache) -> Observation {
    let mut entropy = FixedBits(1);
    let mut now = Micros(0);
    let mut site = Site { settings, zones, entropy: &mut entropy };
    let mut task = Task::new(plan.clone(), &mut site, now, started());
    let (mut query, mut reply, mut bits) = (Vec::with_capacity(512), Vec::with_capacity(512), FixedBits(3));
    loop {
        now.0 += 100;
        for command in task.take_commands() {
            match command {
                Command::Transmit(slot) => {
                    assert!(task.compose(now, slot, ID, &mut bits, &mut query), "a query to send");
                    answer(&query, &mut reply);
                    task.handle_datagram(&mut site, now, slot, &reply);
                }
                Command::Connect(stream, _) => task.handle_connected(&mut site, now, stream),
                Command::Send(stream, _) => {
                    task.handle_stream(&mut site, now, stream, HTTP_RESPONSE.as_bytes());
                }
                Command::Release(_) | Command::Part(..) | Command::Close(_) | Command::Pace(..) => {}
            }
        }
        if let Some(observation) = task.poll_observation(now) {
            return *observation;
        }
    }
}

/// The plan of an attempt by `method`, with CAA.
#[must_use]
pub fn plan(method: Method) -> Plan {
    Plan::new(&request(method), PlanLimits::default(), None)
}

/// One that looks for a contact in CAA records, level by level.
#[must_use]
pub fn contact_climb() -> Plan {
    let levels = ["www.customer.example", "customer.example", "example"].map(str::to_owned).to_vec();
    Plan { control: Some(ControlPlan::Dns(Inquiry::Climb { levels })), ..plan(Method::Dns01) }
}
