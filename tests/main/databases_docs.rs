//! `docs/databases.md` is true: its SQL is run on real servers, in its order, and serves.

use crate::support::mariadb::{MariaDb, MariaDbOptions};
use crate::support::node::{Node, SOON, wait_until};
use crate::support::postgres::{Postgres, PostgresOptions};
use crate::support::sql::{block_on, execute, rows, try_rows};

/// A block of SQL, and what stands before it about who runs it.
struct Block {
    run: String,
    statements: Vec<String>,
}

/// The blocks for this database, in their order.
fn blocks(database: &str) -> Vec<Block> {
    let page = std::fs::read_to_string(concat!(env!("CARGO_MANIFEST_DIR"), "/docs/databases.md")).unwrap();
    let found: Vec<Block> = page
        .split("<!-- run: ")
        .skip(1)
        .map(|rest| {
            let (run, rest) = rest.split_once(" -->\n```sql\n").expect("SQL follows the mark");
            let (sql, _) = rest.split_once("\n```").expect("the block ends");
            let lines: Vec<&str> = sql.lines().filter(|line| !line.starts_with("--")).collect();
            let statements = lines.join("\n").split_terminator(';').map(|one| one.trim().to_owned()).collect();
            Block { run: run.to_owned(), statements }
        })
        .filter(|block| block.run.starts_with(database))
        .collect();
    assert!(found.len() >= 2, "{database}: {} blocks", found.len());
    found
}

fn run(url: &str, block: &Block) {
    for statement in &block.statements {
        block_on(execute(url, statement));
    }
}

/// The same server and database for another user.
fn of(url: &str, user: &str, password: &str) -> String {
    let (scheme, rest) = url.split_once("://").unwrap();
    let (_, server) = rest.split_once('@').unwrap();
    format!("{scheme}://{user}:{password}@{server}")
}

/// Migrates as the owner, grants, serves with the minimal role, and registers a monitor as one who may only insert.
fn the_recipe_holds(admin: &str, database: &str, blocks: &[Block]) {
    let (before, after): (Vec<&Block>, Vec<&Block>) =
        blocks.iter().partition(|block| !block.run.contains("after migrate"));
    before.iter().for_each(|block| run(admin, block));
    let [owner, service, writer] =
        [("watchbell_owner", "owner"), ("watchbell", "service"), ("monitor_writer", "writer")]
            .map(|(user, password)| of(database, user, &format!("{password}-password")));
    let mut node = Node::new().with("WATCHBELL_DATABASE_URL", &service);
    let migrated = node.watchbell(["migrate", "--database-url", &owner]);
    assert!(migrated.status.success(), "{migrated:?}");
    for block in after {
        run(if block.run.contains("owner") { &owner } else { admin }, block);
    }
    let said = node.start();
    assert!(!said.contains("password@"), "{said}");
    let insert = "INSERT INTO monitors (name, kind, schedule, config, people_to_notify) VALUES ('Absent', 'file', \
                  '0 0 1 1 *', '{\"path\": \"/nonexistent\"}', '[\"ops@example.com\"]')";
    block_on(execute(&writer, insert));
    wait_until("the monitor alerts and its mail is out", SOON, || {
        let found = block_on(rows(&service, "SELECT status FROM notifications WHERE type = 'alert'"));
        found == [[Some("sent".to_owned())]]
    });
    for denied in ["SELECT * FROM monitors", "UPDATE monitors SET is_active = 0", "DELETE FROM monitors"] {
        assert!(block_on(try_rows(&writer, denied)).is_err(), "{denied}");
    }
    assert!(block_on(try_rows(&service, "CREATE TABLE more (id int)")).is_err(), "the service makes no tables");
    let doctor = String::from_utf8(node.watchbell(["doctor"]).stdout).unwrap();
    assert!(!doctor.contains("lacks rights"), "{doctor}");
    assert!(node.stop().success());
    assert_eq!(node.log_lines_with("ERROR"), 0, "{}", node.log());
    assert!(!node.log().contains("service-password"));
}

#[test]
fn the_roles_for_postgresql() {
    let server = Postgres::own(PostgresOptions { password: Some("admin".to_owned()), ..PostgresOptions::default() });
    let admin = server.url("postgres");
    // Of the same name as the service in the recipe: the tests' administrator gets another.
    block_on(execute(&admin, "CREATE ROLE admin SUPERUSER LOGIN PASSWORD 'admin'"));
    let admin = of(&admin, "admin", "admin");
    block_on(execute(&admin, "ALTER ROLE watchbell RENAME TO first"));
    the_recipe_holds(&admin, &server.url("watchbell"), &blocks("postgres"));
}

#[test]
fn the_users_for_mysql() {
    let server = MariaDb::own(MariaDbOptions { has_binary_log: true, ..MariaDbOptions::default() });
    let admin = server.url("mysql");
    // Of the same name as the service in the recipe: the tests' administrator gets another.
    block_on(execute(
        &admin,
        "CREATE USER admin@'%' IDENTIFIED BY 'admin'; GRANT ALL ON *.* TO admin@'%' WITH GRANT OPTION",
    ));
    let admin = of(&admin, "admin", "admin");
    block_on(execute(&admin, "DROP USER watchbell@'%'"));
    the_recipe_holds(&admin, &server.url("watchbell"), &blocks("mysql"));
}
