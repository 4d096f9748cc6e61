//! Rules as data and their text for `iptables-restore`.

use std::fmt::Write as _;

/// The netfilter tables in use, in the order in which they are written.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Table {
    /// Only checked for leftovers; this program writes no rules here.
    Filter,
    /// Marks, TPROXY, dropped packets.
    Mangle,
    /// REDIRECT.
    Nat,
    /// Connection tracking zones of DNS.
    Raw,
}

impl Table {
    /// All tables in the order in which they are written.
    pub const ALL: [Self; 4] = [Self::Filter, Self::Mangle, Self::Nat, Self::Raw];

    /// The name after `*` in the restore format.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Filter => "filter",
            Self::Mangle => "mangle",
            Self::Nat => "nat",
            Self::Raw => "raw",
        }
    }

    /// The table of that name.
    #[must_use]
    pub fn parse(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|table| table.name() == name)
    }
}

/// One rule in a chain.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Rule {
    /// The table that holds the chain.
    pub table: Table,
    /// The chain, built-in or of this program.
    pub chain: &'static str,
    /// 1-based position of an insertion; `None` to append.
    pub position: Option<u8>,
    /// Matches and target, without `-A CHAIN`.
    pub spec: String,
}

impl Rule {
    /// The chain or target that the rule jumps to.
    #[must_use]
    pub fn target(&self) -> Option<&str> {
        let mut words = self.spec.split(' ');
        words.find(|word| *word == "-j")?;
        words.next()
    }
}

/// All rules of one address family, in order of creation.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Ruleset {
    rules: Vec<Rule>,
}

impl Ruleset {
    /// Appends a rule to its chain.
    pub fn append(&mut self, table: Table, chain: &'static str, spec: impl Into<String>) {
        self.rules.push(Rule {
            table,
            chain,
            position: None,
            spec: spec.into(),
        });
    }

    /// Inserts a rule at the given 1-based position of its chain.
    pub fn insert(
        &mut self,
        table: Table,
        chain: &'static str,
        position: u8,
        spec: impl Into<String>,
    ) {
        self.rules.push(Rule {
            table,
            chain,
            position: Some(position),
            spec: spec.into(),
        });
    }

    /// The rules in order.
    #[must_use]
    pub fn rules(&self) -> &[Rule] {
        &self.rules
    }

    /// The chains of this program in one table: those with rules in order of first use, then those
    /// that are only jumped to.
    #[must_use]
    pub fn chains(&self, table: Table) -> Vec<&str> {
        let mut chains: Vec<&str> = Vec::new();
        let in_table = || self.rules.iter().filter(move |rule| rule.table == table);
        let named = in_table()
            .map(|rule| rule.chain)
            .chain(in_table().filter_map(Rule::target));
        for chain in named.filter(|chain| is_ours(chain)) {
            if !chains.contains(&chain) {
                chains.push(chain);
            }
        }
        chains
    }

    /// Restore input that creates all chains; fails if one exists already.
    #[must_use]
    pub fn render(&self) -> String {
        self.text(|out, table| {
            for chain in self.chains(table) {
                line(out, format_args!("-N {chain}"));
            }
        })
    }

    fn text(&self, header: impl Fn(&mut String, Table)) -> String {
        let mut out = String::new();
        for table in Table::ALL {
            if !self.rules.iter().any(|rule| rule.table == table) {
                continue;
            }
            line(&mut out, format_args!("*{}", table.name()));
            header(&mut out, table);
            self.write_rules(&mut out, table);
            line(&mut out, format_args!("COMMIT"));
        }
        out
    }

    pub(super) fn write_rules(&self, out: &mut String, table: Table) {
        for rule in self.rules.iter().filter(|rule| rule.table == table) {
            match rule.position {
                None => line(out, format_args!("-A {} {}", rule.chain, rule.spec)),
                Some(at) => line(out, format_args!("-I {} {at} {}", rule.chain, rule.spec)),
            }
        }
    }
}

/// Whether a chain belongs to this program.
#[must_use]
pub fn is_ours(chain: &str) -> bool {
    chain.starts_with("ISTIO_")
}

/// Adds a line of text.
pub(super) fn line(out: &mut String, text: std::fmt::Arguments<'_>) {
    // Writing to a String cannot fail.
    let _ = writeln!(out, "{text}");
}
