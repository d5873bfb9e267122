//! Matching of confirmations to messages.
//!
//! rumqttc does not return the packet id of a message when it takes it. It sends messages in the order in which it took
//! them, though, and reports the id of each when it sends it.

use std::collections::{BTreeMap, VecDeque};

/// Messages of a session that are not confirmed.
#[derive(Debug, Default)]
pub(super) struct InFlight {
    /// Messages that are not sent yet, by number of their publication; `None` where no confirmation is awaited.
    handed_out: VecDeque<Option<u64>>,
    /// Numbers of publications that are sent and not confirmed, by packet id.
    sent: BTreeMap<u16, u64>,
}

impl InFlight {
    /// Notes that rumqttc has taken a message; `number` is that of its publication.
    pub(super) fn handed_out(&mut self, number: Option<u64>) {
        self.handed_out.push_back(number);
    }

    /// Notes the packet id under which the oldest of these messages was sent.
    pub(super) fn sent(&mut self, packet: u16) {
        if let Some(Some(number)) = self.handed_out.pop_front() {
            self.sent.insert(packet, number);
        }
    }

    /// Number of the publication whose message has this packet id.
    pub(super) fn confirmed(&mut self, packet: u16) -> Option<u64> {
        self.sent.remove(&packet)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn confirmations_find_their_publication() {
        let mut in_flight = InFlight::default();
        for number in [Some(7), None, Some(8)] {
            in_flight.handed_out(number);
        }
        assert_eq!(in_flight.confirmed(1), None);
        for packet in 1..=3 {
            in_flight.sent(packet);
        }
        assert_eq!(in_flight.confirmed(3), Some(8));
        assert_eq!(in_flight.confirmed(2), None);
        assert_eq!(in_flight.confirmed(1), Some(7));
        // Packet ids come round again.
        in_flight.handed_out(Some(9));
        in_flight.sent(1);
        assert_eq!(in_flight.confirmed(1), Some(9));
    }
}
