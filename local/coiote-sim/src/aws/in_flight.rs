//! Which message a confirmation is for.
//!
//! rumqttc does not tell the packet id of a message when it takes it. It sends messages in the order in which it took
//! them, though, and tells the id of each as it goes.

use std::collections::{BTreeMap, VecDeque};

/// What a session has been given to send.
#[derive(Debug, Default)]
pub(super) struct InFlight {
    /// Not sent yet; `None` for what nobody waits for.
    handed_out: VecDeque<Option<u64>>,
    /// Not confirmed yet, by packet id.
    sent: BTreeMap<u16, u64>,
}

impl InFlight {
    /// `number` of a publication.
    pub(super) fn handed_out(&mut self, number: Option<u64>) {
        self.handed_out.push_back(number);
    }

    pub(super) fn sent(&mut self, packet: u16) {
        if let Some(Some(number)) = self.handed_out.pop_front() {
            self.sent.insert(packet, number);
        }
    }

    /// The number of the publication that is confirmed by this.
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
