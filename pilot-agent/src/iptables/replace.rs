//! Input of `iptables-restore` that replaces existing rules.

use super::ruleset::{Ruleset, Table, line};
use super::state::Saved;

impl Ruleset {
    /// Restore input that replaces the rules in one transaction: all chains of this program,
    /// existing or new, are created or flushed, the jumps in `existing` are removed, and the rules
    /// are added. Finally, unused chains are deleted.
    #[must_use]
    pub fn render_replacing(&self, existing: &Saved) -> String {
        let mut out = String::new();
        for table in Table::ALL {
            let wanted = self.chains(table);
            let stale: Vec<&str> = existing
                .own_chains(table)
                .filter(|chain| !wanted.contains(chain))
                .collect();
            let hooks = existing.own_hooks(table);
            if wanted.is_empty()
                && stale.is_empty()
                && !self.rules().iter().any(|rule| rule.table == table)
            {
                continue;
            }
            line(&mut out, format_args!("*{}", table.name()));
            for chain in wanted.iter().chain(&stale) {
                line(&mut out, format_args!(":{chain} - [0:0]"));
            }
            for (chain, spec) in hooks {
                line(&mut out, format_args!("-D {chain} {spec}"));
            }
            self.write_rules(&mut out, table);
            for chain in stale {
                line(&mut out, format_args!("-X {chain}"));
            }
            line(&mut out, format_args!("COMMIT"));
        }
        out
    }
}

impl Saved {
    /// Restore input that removes all rules of this program; empty if there are none.
    #[must_use]
    pub fn render_cleanup(&self) -> String {
        Ruleset::default().render_replacing(self)
    }
}
