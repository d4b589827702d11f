// Oraslayout copies every tagged image of one OCI layout into another through the layout store of oras-go, image by
// image, as oras itself does, and prints how many seconds the first, the last and all of them took.
//
//	oraslayout SOURCE DESTINATION COUNTED
package main

import (
	"bytes"
	"context"
	_ "crypto/sha256" // what go-digest computes sha256 with
	"encoding/json"
	"fmt"
	"log"
	"os"
	"path/filepath"
	"strconv"
	"time"

	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
	"oras.land/oras-go/v2/content/oci"
)

func main() {
	log.SetFlags(0)
	if len(os.Args) != 4 {
		log.Fatal("oraslayout SOURCE DESTINATION COUNTED")
	}
	counted, err := strconv.Atoi(os.Args[3])
	if err != nil {
		log.Fatal(err)
	}
	if err := run(context.Background(), os.Args[1], os.Args[2], counted); err != nil {
		log.Fatal(err)
	}
}

// run prints {"first": seconds, "last": seconds, "all": seconds}; the first two of counted images each.
func run(ctx context.Context, source, destination string, counted int) error {
	var index ocispec.Index
	if err := read(filepath.Join(source, ocispec.ImageIndexFile), &index); err != nil {
		return err
	}
	store, err := oci.New(destination)
	if err != nil {
		return err
	}
	began := time.Now()
	var first, beforeLast time.Duration
	for number, entry := range index.Manifests {
		if number == len(index.Manifests)-counted {
			beforeLast = time.Since(began)
		}
		if err := copyImage(ctx, store, source, entry); err != nil {
			return err
		}
		if number == counted-1 {
			first = time.Since(began)
		}
	}
	all := time.Since(began)
	return json.NewEncoder(os.Stdout).Encode(map[string]float64{
		"first": first.Seconds(),
		"last":  (all - beforeLast).Seconds(),
		"all":   all.Seconds(),
	})
}

// copyImage pushes config, layers and manifest, in this order, and tags the manifest.
func copyImage(ctx context.Context, store *oci.Store, source string, entry ocispec.Descriptor) error {
	tag := entry.Annotations[ocispec.AnnotationRefName]
	entry.Annotations = nil
	var manifest ocispec.Manifest
	if err := read(blob(source, entry), &manifest); err != nil {
		return err
	}
	for _, descriptor := range append([]ocispec.Descriptor{manifest.Config}, append(manifest.Layers, entry)...) {
		content, err := os.ReadFile(blob(source, descriptor))
		if err != nil {
			return err
		}
		if err := store.Push(ctx, descriptor, bytes.NewReader(content)); err != nil {
			return fmt.Errorf("push %s: %w", descriptor.Digest, err)
		}
	}
	return store.Tag(ctx, entry, tag)
}

func blob(layout string, descriptor ocispec.Descriptor) string {
	return filepath.Join(layout, ocispec.ImageBlobsDir, descriptor.Digest.Algorithm().String(), descriptor.Digest.Encoded())
}

func read(path string, value any) error {
	content, err := os.ReadFile(path)
	if err != nil {
		return err
	}
	return json.Unmarshal(content, value)
}
