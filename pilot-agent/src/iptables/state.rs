//! The output of `iptables-save` and its differences from the desired rules.

use super::ruleset::{Ruleset, Table, is_ours};

/// The parsed output of `iptables-save`.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Saved {
    chains: Vec<(Table, String)>,
    rules: Vec<(Table, String, String)>,
}

impl Saved {
    /// Parses the text; unknown lines and tables are skipped.
    #[must_use]
    pub fn parse(text: &str) -> Self {
        let mut saved = Self::default();
        let mut table = None;
        for text in text.lines().map(str::trim) {
            if let Some(name) = text.strip_prefix('*') {
                table = Table::parse(name.trim());
            } else if let (Some(table), Some(chain)) = (table, text.strip_prefix(':')) {
                if let Some(name) = chain.split(' ').next() {
                    saved.chains.push((table, name.to_owned()));
                }
            } else if let (Some(table), Some(rule)) = (table, text.strip_prefix("-A "))
                && let Some((chain, spec)) = rule.split_once(' ')
            {
                saved.rules.push((table, chain.to_owned(), spec.to_owned()));
            }
        }
        saved
    }

    /// Existing chains of this program in `table`.
    pub fn own_chains(&self, table: Table) -> impl Iterator<Item = &str> {
        self.chains
            .iter()
            .filter(move |(of, chain)| *of == table && is_ours(chain))
            .map(|(_, chain)| chain.as_str())
    }

    /// Rules of this program in built-in chains: all jumps into its chains and, if any of its
    /// chains exists, the forms of rules that do not name one of them.
    #[must_use]
    pub fn own_hooks(&self, table: Table) -> Vec<(&str, &str)> {
        let residue = self.has_residue();
        self.rules
            .iter()
            .filter(|(of, chain, spec)| {
                *of == table
                    && !is_ours(chain)
                    && (jumps_to_ours(spec) || (residue && is_own_form(table, chain, spec)))
            })
            .map(|(_, chain, spec)| (chain.as_str(), spec.as_str()))
            .collect()
    }

    /// Whether any chain of this program, or a jump to one, exists.
    #[must_use]
    pub fn has_residue(&self) -> bool {
        self.chains.iter().any(|(_, chain)| is_ours(chain))
            || self.rules.iter().any(|(_, _, spec)| jumps_to_ours(spec))
    }

    /// The total number of rules.
    #[must_use]
    pub fn rule_count(&self) -> usize {
        self.rules.len()
    }

    /// How this state differs from `wanted`, by chains and numbers of rules; each single rule must
    /// be checked with the kernel. `None` if no difference was found.
    #[must_use]
    pub fn difference(&self, wanted: &Ruleset) -> Option<String> {
        for table in Table::ALL {
            let chains = wanted.chains(table);
            for chain in &chains {
                if !self.own_chains(table).any(|found| found == *chain) {
                    return Some(format!(
                        "chain {chain} is missing from table {}",
                        table.name()
                    ));
                }
                let have = self
                    .rules
                    .iter()
                    .filter(|(of, name, _)| *of == table && name == chain)
                    .count();
                let want = wanted
                    .rules()
                    .iter()
                    .filter(|rule| rule.table == table && rule.chain == *chain)
                    .count();
                if have != want {
                    return Some(format!(
                        "chain {chain} of table {} has {have} rules instead of {want}",
                        table.name()
                    ));
                }
            }
            if let Some(unknown) = self.own_chains(table).find(|chain| !chains.contains(chain)) {
                return Some(format!(
                    "unexpected chain {unknown} in table {}",
                    table.name()
                ));
            }
            let hooks = self.own_hooks(table).len();
            let want = wanted
                .rules()
                .iter()
                .filter(|rule| rule.table == table && !is_ours(rule.chain))
                .count();
            if hooks != want {
                return Some(format!(
                    "table {} has {hooks} hooks instead of {want}",
                    table.name()
                ));
            }
        }
        None
    }
}

fn jumps_to_ours(spec: &str) -> bool {
    let mut words = spec.split(' ');
    words.find(|word| matches!(*word, "-j" | "-g")).is_some() && words.next().is_some_and(is_ours)
}

/// Excluded interfaces and the mark handling of TPROXY are in built-in chains, without a name of
/// this program.
fn is_own_form(table: Table, chain: &str, spec: &str) -> bool {
    let words: Vec<&str> = spec.split(' ').collect();
    let skips_interface = matches!(
        (chain, words.as_slice()),
        ("PREROUTING", ["-i", _, "-j", "RETURN"]) | ("OUTPUT", ["-o", _, "-j", "RETURN"])
    );
    match table {
        Table::Nat => skips_interface,
        Table::Mangle => {
            skips_interface
                || (spec.contains("-j CONNMARK") && matches!(chain, "PREROUTING" | "OUTPUT"))
                || (chain == "OUTPUT"
                    && spec.contains("-o lo")
                    && spec.contains("-m mark")
                    && spec.ends_with("-j RETURN"))
                || (chain == "OUTPUT"
                    && spec.contains("-o lo")
                    && spec.contains("-m owner")
                    && spec.contains("-j MARK"))
        }
        Table::Raw => chain == "OUTPUT" && spec.contains("-m owner") && spec.contains("-j CT"),
        Table::Filter => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SAVE: &str = "# Generated\n*nat\n:PREROUTING ACCEPT [0:0]\n:OUTPUT ACCEPT [0:0]\n:ISTIO_OUTPUT - [0:0]\n\
        :ISTIO_OLD - [0:0]\n-A PREROUTING -i eth9 -j RETURN\n-A PREROUTING -p tcp -j MINE\n-A OUTPUT -j ISTIO_OUTPUT\n\
        -A ISTIO_OUTPUT -j RETURN\nCOMMIT\n";

    #[test]
    fn cleanup_comes_from_the_saved_state_and_leaves_foreign_rules() {
        let text = Saved::parse(SAVE).render_cleanup();
        assert_eq!(
            text,
            "*nat\n:ISTIO_OUTPUT - [0:0]\n:ISTIO_OLD - [0:0]\n-D PREROUTING -i eth9 -j RETURN\n\
             -D OUTPUT -j ISTIO_OUTPUT\n-X ISTIO_OUTPUT\n-X ISTIO_OLD\nCOMMIT\n"
        );
        assert_eq!(
            Saved::parse("*nat\n-A PREROUTING -i eth9 -j RETURN\nCOMMIT\n").render_cleanup(),
            ""
        );
    }

    #[test]
    fn differences_name_chain_and_table() {
        let mut wanted = Ruleset::default();
        wanted.append(Table::Nat, "OUTPUT", "-j ISTIO_OUTPUT");
        wanted.append(Table::Nat, "ISTIO_OUTPUT", "-j RETURN");
        let saved = Saved::parse(SAVE);
        assert_eq!(
            saved.difference(&wanted).as_deref(),
            Some("unexpected chain ISTIO_OLD in table nat")
        );
        let clean = SAVE
            .replace(":ISTIO_OLD - [0:0]\n", "")
            .replace("-A PREROUTING -i eth9 -j RETURN\n", "");
        assert_eq!(Saved::parse(&clean).difference(&wanted), None);
        wanted.append(Table::Nat, "ISTIO_OUTPUT", "-d 10.0.0.0/8 -j RETURN");
        assert_eq!(
            Saved::parse(&clean).difference(&wanted).as_deref(),
            Some("chain ISTIO_OUTPUT of table nat has 1 rules instead of 2")
        );
    }
}
