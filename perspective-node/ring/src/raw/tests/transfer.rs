//! Whole conversations with another stack, over good wires and bad.

use super::peer::{Faults, converse};
use super::world::near;

#[test]
fn many_bytes_go_both_ways() {
    for peer in near() {
        converse(1, Faults::default(), peer, 200 * 1024, 1);
    }
}

#[test]
fn every_byte_arrives_in_order_over_a_wire_that_loses_doubles_and_mixes() {
    let faults = Faults { lost: 20, doubled: 20, late: 20, ..Faults::default() };
    for seed in 0..150 {
        converse(seed, faults, near()[(seed % 2) as usize], 8 * 1024, 1);
    }
}

#[test]
fn what_is_altered_or_cut_is_sent_again() {
    let faults = Faults { lost: 5, altered: 10, cut: 10, late: 10, ..Faults::default() };
    for seed in 200..280 {
        converse(seed, faults, near()[(seed % 2) as usize], 8 * 1024, 1);
    }
}

#[test]
fn nothing_is_lost_for_good_while_there_is_often_no_room() {
    for seed in 400..480 {
        let lost = if seed % 4 < 2 { 0 } else { 10 };
        let faults = Faults { full: 40, lost, late: lost, ..Faults::default() };
        converse(seed, faults, near()[(seed % 2) as usize], 8 * 1024, 2);
    }
}

#[test]
fn streams_to_one_peer_do_not_mix() {
    let faults = Faults { lost: 5, doubled: 5, late: 20, ..Faults::default() };
    for seed in 300..312 {
        converse(seed, faults, near()[(seed % 2) as usize], 4 * 1024, 16);
    }
}
