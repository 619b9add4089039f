// What bbolt itself says of a database file, and whether the file bears being written to.
//
//	boltcheck FILE        open read-only, check, count the pairs
//	boltcheck -write FILE also delete and put in every bucket, in several transactions, and check again
package main

import (
	"flag"
	"fmt"
	"os"

	"go.etcd.io/bbolt"
)

func check(db *bbolt.DB) (pairs int, err error) {
	err = db.View(func(tx *bbolt.Tx) error {
		for finding := range tx.Check() {
			return finding
		}
		return tx.ForEach(func(_ []byte, b *bbolt.Bucket) error {
			return b.ForEach(func(_, _ []byte) error {
				pairs++
				return nil
			})
		})
	})
	return pairs, err
}

// Each round takes away two of three keys left and puts others below, between and above the rest.
func write(db *bbolt.DB, round int) error {
	return db.Update(func(tx *bbolt.Tx) error {
		return tx.ForEach(func(_ []byte, b *bbolt.Bucket) error {
			var keys [][]byte
			if err := b.ForEach(func(k, _ []byte) error {
				keys = append(keys, append([]byte(nil), k...))
				return nil
			}); err != nil {
				return err
			}
			for i, k := range keys {
				if i%3 != round%3 {
					if err := b.Delete(k); err != nil {
						return err
					}
				}
				if i%7 == 0 {
					if err := b.Put(append(k, byte(round)), make([]byte, 100*(i%50))); err != nil {
						return err
					}
				}
			}
			if err := b.Put([]byte{0, byte(round)}, nil); err != nil {
				return err
			}
			return b.Put([]byte{255, byte(round)}, nil)
		})
	})
}

func run(path string, writing bool) error {
	db, err := bbolt.Open(path, 0o600, &bbolt.Options{ReadOnly: !writing})
	if err != nil {
		return err
	}
	defer db.Close()
	pairs, err := check(db)
	if err != nil {
		return err
	}
	fmt.Println("pairs:", pairs)
	for round := 0; writing && round < 6; round++ {
		if err := write(db, round); err != nil {
			return fmt.Errorf("round %d: %w", round, err)
		}
		if _, err := check(db); err != nil {
			return fmt.Errorf("after round %d: %w", round, err)
		}
	}
	return nil
}

func main() {
	writing := flag.Bool("write", false, "write to the file, too")
	flag.Parse()
	if flag.NArg() != 1 {
		flag.Usage()
		os.Exit(2)
	}
	if err := run(flag.Arg(0), *writing); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}
